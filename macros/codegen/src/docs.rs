//! What a schema says of its types, as documentation in Rust.

/// The `doc` of a schema, or else what is said of everything without one.
///
/// `cargo test` compiles and runs what Markdown takes for code: fences that name no language get one, and no line
/// outside of them is indented far enough to be code.
pub(super) fn doc(text: &str, otherwise: impl FnOnce() -> String) -> String {
    if text.is_empty() {
        return otherwise();
    }
    let mut fence: Option<&str> = None;
    let lines = text.lines().map(|line| {
        let code = line.trim_start();
        match (fence, fence_of(code)) {
            (Some(open), Some(close)) if close.starts_with(open) && close.len() == code.trim_end().len() => {
                fence = None
            }
            (Some(_), _) => {}
            (None, Some(open)) => {
                fence = Some(open);
                return format!("{}{open}text", &line[..(line.len() - code.len()).min(MAX_INDENT)]);
            }
            (None, None) if line.len() - code.len() > MAX_INDENT || line.starts_with('\t') => {
                return format!("{:MAX_INDENT$}{code}", "");
            }
            (None, None) => {}
        }
        line.to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Any further, and a line is code.
const MAX_INDENT: usize = 3;

/// The marks that a fence begins with.
fn fence_of(line: &str) -> Option<&str> {
    let mark = line.chars().next().filter(|mark| matches!(mark, '`' | '~'))?;
    let rest = line.trim_start_matches(mark);
    let len = line.len() - rest.len();
    // Otherwise it is code within a line.
    (len >= 3 && !(mark == '`' && rest.contains(mark))).then(|| &line[..len])
}

#[cfg(test)]
mod tests {
    use super::doc;

    #[test]
    fn nothing_becomes_code_that_is_run() {
        for (text, expected) in [
            ("", "otherwise"),
            ("One.\n\nTwo.", "One.\n\nTwo."),
            ("An example:\n\n    {\"x\": 1}\n\tand", "An example:\n\n   {\"x\": 1}\n   and"),
            ("```\n    {}\n```\n    x", "```text\n    {}\n```\n   x"),
            ("````rust\n```\nx\n````\n~~~\nx", "````text\n```\nx\n````\n~~~text\nx"),
            ("``a`` b\n```c``` d\n    e", "``a`` b\n```c``` d\n   e"),
        ] {
            assert_eq!(doc(text, || "otherwise".to_owned()), expected);
        }
    }
}
