//! Settings that must not be shown.

use std::fmt;

/// A text that is not shown: a password, a key, a token.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text from being shown.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the client that needs it.
    #[cfg(any(feature = "kafka", feature = "registry"))]
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Whether a setting of that name holds something that must not be shown.
pub fn is_secret(name: &str) -> bool {
    ["password", "secret", "oauth", "token", ".key.pem", "jaas"].iter().any(|part| name.contains(part))
}

/// An address without its secrets: those among its settings, and a password before the host.
pub fn without_secrets(url: &str) -> String {
    let (address, query) = url.split_once('?').map_or((url, None), |(address, query)| (address, Some(query)));
    let (scheme, rest) = address.split_once("://").map_or(("", address), |(scheme, rest)| (scheme, rest));
    let mut shown = match rest.split_once('@').and_then(|(user, host)| Some((user.split_once(':')?.0, host))) {
        Some((user, host)) if !scheme.is_empty() => format!("{scheme}://{user}:(secret)@{host}"),
        _ => address.to_owned(),
    };
    if let Some(query) = query {
        let pairs = query.split('&').map(|pair| match pair.split_once('=') {
            Some((name, _)) if is_secret(&decoded(name)) => format!("{name}=(secret)"),
            _ => pair.to_owned(),
        });
        shown.push('?');
        shown.push_str(&pairs.collect::<Vec<_>>().join("&"));
    }
    shown
}

/// A text with its `%xx` resolved.
pub(super) fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let pair = bytes.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok());
        match pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()).filter(|_| *byte == b'%') {
            Some(value) => {
                out.push(value);
                at += 3;
            }
            None => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_taken_out_of_an_address() {
        let url = "kafka://h:1?sasl.username=me&sasl.password=x&ssl.key.password=y&ssl.key.pem=z&acks=all";
        let shown = without_secrets(url);
        assert_eq!(
            shown,
            "kafka://h:1?sasl.username=me&sasl.password=(secret)&ssl.key.password=(secret)&ssl.key.pem=(secret)&acks=all"
        );
        assert_eq!(without_secrets("log:/x"), "log:/x");
        assert_eq!(without_secrets("log:/a:b@c"), "log:/a:b@c");
        assert_eq!(without_secrets("kafka://me:x@h:1,i:2?acks=all"), "kafka://me:(secret)@h:1,i:2?acks=all");
        assert_eq!(without_secrets("kafka://me@h:1"), "kafka://me@h:1");
    }
}
