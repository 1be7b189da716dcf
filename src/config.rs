//! Settings: flags, then the environment, then one TOML file, then defaults; each knows where it comes from.

mod known;
mod open;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use self::known::{KNOWN, Kind, Known};
pub(crate) use self::open::environment;
use crate::error::{Error, ErrorKind, Result};

/// The file that is read where no other is named, if it exists.
pub const DEFAULT_FILE: &str = "gretchen.toml";

/// What the name of every setting's variable begins with.
pub const PREFIX: &str = "GRETCHEN_";

/// What the name of a variable begins with that is a setting of Kafka's client.
const KAFKA_PREFIX: &str = "GRETCHEN_KAFKA_";

/// Where a setting's value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything else.
    Default,
    /// This line of this file.
    File(PathBuf, usize),
    /// This environment variable.
    Environment(String),
    /// This flag.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => f.write_str(name),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// One setting as it is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name, as in the file.
    pub name: &'static str,
    /// Its value; empty where the program decides.
    pub value: String,
    /// Where the value comes from.
    pub origin: Origin,
    /// What it means.
    pub help: &'static str,
}

/// All settings in force.
#[derive(Clone, Debug)]
pub struct Settings {
    settings: Vec<Setting>,
    /// Settings of Kafka's client by name.
    kafka: BTreeMap<String, (String, Origin)>,
    folder: PathBuf,
}

impl Settings {
    /// Puts them together: `flags` by the setting's name, then the variables of the environment that begin with
    /// [`PREFIX`], then the file.
    ///
    /// Without `file` it is [`DEFAULT_FILE`] in the working directory, if that exists.
    pub fn load(
        flags: &BTreeMap<&'static str, String>,
        environment: &BTreeMap<String, String>,
        file: Option<&Path>,
    ) -> Result<Self> {
        check_variables(environment)?;
        let (path, text) = match file {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| Error::io(format!("cannot read the configuration {}", path.display()), error))?;
                (path.to_owned(), Some(text))
            }
            None => match std::fs::read_to_string(DEFAULT_FILE) {
                Ok(text) => (DEFAULT_FILE.into(), Some(text)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => (DEFAULT_FILE.into(), None),
                Err(error) => return Err(Error::io(format!("cannot read the configuration {DEFAULT_FILE}"), error)),
            },
        };
        let Written { settings: written, kafka: written_kafka } = match &text {
            Some(text) => parse_file(&path, text)?,
            None => Written::default(),
        };
        let mut settings = Vec::new();
        for known in KNOWN {
            let variable = variable_of(known.name);
            let (value, origin) = if let Some(value) = flags.get(known.name) {
                (value.clone(), Origin::Flag(flag_of(known.name)))
            } else if let Some(value) = environment.get(&variable) {
                (value.clone(), Origin::Environment(variable))
            } else if let Some((value, line)) = written.get(known.name) {
                (value.clone(), Origin::File(path.clone(), *line))
            } else {
                (known.default.to_owned(), Origin::Default)
            };
            if origin != Origin::Default {
                known.check(&value, &origin)?;
            }
            settings.push(Setting { name: known.name, value, origin, help: known.help });
        }
        let mut kafka: BTreeMap<String, (String, Origin)> = written_kafka
            .into_iter()
            .map(|(name, (value, line))| (name, (value, Origin::File(path.clone(), line))))
            .collect();
        for (variable, value) in environment {
            if let Some(name) = variable.strip_prefix(KAFKA_PREFIX) {
                let name = name.to_ascii_lowercase().replace('_', ".");
                kafka.insert(name, (value.clone(), Origin::Environment(variable.clone())));
            }
        }
        let folder = path.parent().map(Path::to_owned).unwrap_or_default();
        Ok(Self { settings, kafka, folder })
    }

    /// Every setting, in the order in which people should read them.
    pub fn all(&self) -> &[Setting] {
        &self.settings
    }

    /// The setting of that name.
    pub fn get(&self, name: &str) -> Option<&Setting> {
        self.settings.iter().find(|setting| setting.name == name)
    }

    /// The settings of Kafka's client, by its names, each with where it comes from: the table `[kafka]` of the file, and
    /// variables such as `GRETCHEN_KAFKA_SASL_PASSWORD` for `sasl.password`, which win.
    pub fn kafka(&self) -> impl Iterator<Item = (&str, &str, &Origin)> {
        self.kafka.iter().map(|(name, (value, origin))| (name.as_str(), value.as_str(), origin))
    }

    /// The value of a setting, if it has one.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).map(|setting| setting.value.as_str()).filter(|value| !value.is_empty())
    }

    /// The value of a number, if it has one.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }

    /// The data folder. A relative one in a file is relative to that file.
    pub fn data_dir(&self) -> PathBuf {
        let Some(setting) = self.get("data_dir") else { return PathBuf::new() };
        match setting.origin {
            Origin::File(..) => self.folder.join(&setting.value),
            _ => PathBuf::from(&setting.value),
        }
    }
}

impl Known {
    fn check(&self, value: &str, origin: &Origin) -> Result<()> {
        let expected = match self.kind {
            Kind::Text if !value.is_empty() => return Ok(()),
            Kind::Text => "a text that is not empty".to_owned(),
            Kind::OneOf(values) if values.contains(&value) => return Ok(()),
            Kind::OneOf(values) => format!("one of {}", values.join(", ")),
            Kind::Number(least, most) => match value.parse::<u64>() {
                Ok(number) if (least..=most).contains(&number) => return Ok(()),
                _ => format!("a whole number from {least} to {most}"),
            },
        };
        Err(Error::new(ErrorKind::Config, format!("{origin}: {} is {value:?}; it must be {expected}", self.name)))
    }
}

/// The environment variable of a setting.
pub fn variable_of(name: &str) -> String {
    format!("{PREFIX}{}", name.to_ascii_uppercase())
}

/// Refuses variables that are no setting's: a misspelt one would be passed over in silence.
fn check_variables(environment: &BTreeMap<String, String>) -> Result<()> {
    let known: Vec<String> = KNOWN.iter().map(|known| variable_of(known.name)).collect();
    let ours = |name: &&String| name.starts_with(PREFIX) && !name.starts_with(KAFKA_PREFIX);
    let unknown = environment.keys().filter(ours).find(|name| !known.contains(name));
    let Some(unknown) = unknown else { return Ok(()) };
    // What they all begin with tells nothing of what was meant.
    let typed = unknown.trim_start_matches(PREFIX);
    let hint = match closest(typed, KNOWN.iter().map(|known| known.name)) {
        Some(close) => format!("did you mean {}?", variable_of(close)),
        None => format!("known are {}", known.join(", ")),
    };
    Err(Error::new(ErrorKind::Config, format!("the environment sets {unknown}, which is no setting; {hint}")))
}

fn flag_of(name: &str) -> String {
    format!("--{}", name.replace('_', "-"))
}

/// The settings of a file with their lines.
#[derive(Default)]
struct Written {
    settings: BTreeMap<&'static str, (String, usize)>,
    kafka: BTreeMap<String, (String, usize)>,
}

fn parse_file(path: &Path, text: &str) -> Result<Written> {
    let line_of = |at: usize| text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1;
    let wrong = |line: usize, what: String| Error::new(ErrorKind::Config, format!("{}:{line}: {what}", path.display()));
    let table = toml::de::DeTable::parse(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_of(span.start));
        wrong(line, error.message().trim().replace('\n', ", "))
    })?;
    let mut found = Written::default();
    for (key, value) in table.get_ref() {
        let line = line_of(key.span().start);
        let name = key.get_ref().as_ref();
        if name == "kafka" {
            let Some(table) = value.get_ref().as_table() else {
                let what = value.get_ref().type_str();
                return Err(wrong(
                    line,
                    format!("kafka must be a table: [kafka], and below it settings; this is a {what}"),
                ));
            };
            kafka_settings("", table, &line_of, &mut found.kafka).map_err(|(line, what)| wrong(line, what))?;
            continue;
        }
        let Some(known) = KNOWN.iter().find(|known| known.name == name) else {
            let all: Vec<&str> = KNOWN.iter().map(|known| known.name).collect();
            let hint = match closest(name, all.iter().copied()) {
                Some(close) => format!("did you mean {close}?"),
                None => format!("known are {}", all.join(", ")),
            };
            return Err(wrong(line, format!("there is no setting {name:?}; {hint}")));
        };
        let value = value.get_ref();
        let as_text = match known.kind {
            Kind::Number(..) => value.as_integer().map(|number| number.as_str().replace('_', "")),
            Kind::OneOf(values) if values.contains(&"true") => {
                value.as_bool().map(|yes| yes.to_string()).or_else(|| value.as_str().map(str::to_owned))
            }
            Kind::Text | Kind::OneOf(_) => value.as_str().map(str::to_owned),
        };
        let Some(as_text) = as_text else {
            let expected = match known.kind {
                Kind::Number(..) => "a whole number without quotes",
                _ => "a text in quotes",
            };
            return Err(wrong(line, format!("{name} must be {expected}, this is a {}", value.type_str())));
        };
        known.check(&as_text, &Origin::File(path.to_owned(), line))?;
        found.settings.insert(known.name, (as_text, line));
    }
    Ok(found)
}

/// The settings in a table, whose names have dots: in TOML those are tables in tables.
fn kafka_settings(
    before: &str,
    table: &toml::de::DeTable<'_>,
    line_of: &impl Fn(usize) -> usize,
    found: &mut BTreeMap<String, (String, usize)>,
) -> Result<(), (usize, String)> {
    for (key, value) in table {
        let name = format!("{before}{}", key.get_ref());
        let line = line_of(key.span().start);
        let value = value.get_ref();
        let number = || Some(value.as_integer()?.as_str().replace('_', ""));
        if let Some(table) = value.as_table() {
            kafka_settings(&format!("{name}."), table, line_of, found)?;
        } else if let Some(text) = value.as_str().map(str::to_owned).or_else(number) {
            found.insert(name, (text, line));
        } else if let Some(yes) = value.as_bool() {
            found.insert(name, (yes.to_string(), line));
        } else {
            let what = value.type_str();
            return Err((line, format!("kafka's {name} must be a text, a number or true or false, this is a {what}")));
        }
    }
    Ok(())
}

/// The name that somebody may have meant.
pub(crate) fn closest<'a>(typed: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    names
        .into_iter()
        .map(|name| (strsim::jaro_winkler(&typed.to_lowercase(), &name.to_lowercase()), name))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(flags: &[(&'static str, &str)], env: &[(&str, &str)], file: &str) -> Result<Settings> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("my.toml");
        std::fs::write(&path, file).unwrap();
        let flags = flags.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let env: BTreeMap<String, String> = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Settings::load(&flags, &env, Some(&path))
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_file() {
        let file = "# mine\nthreads = 2\npartitions = 8\ndata_dir = \"d\"\nsegment_bytes = 1_000_000\n";
        let settings =
            load(&[("threads", "4")], &[("GRETCHEN_THREADS", "3"), ("GRETCHEN_PARTITIONS", "16")], file).unwrap();
        assert_eq!(settings.number("threads"), Some(4));
        assert_eq!(settings.get("threads").unwrap().origin, Origin::Flag("--threads".into()));
        assert_eq!(settings.number("partitions"), Some(16));
        assert_eq!(settings.get("partitions").unwrap().origin.to_string(), "GRETCHEN_PARTITIONS");
        assert_eq!(settings.number("segment_bytes"), Some(1_000_000));
        assert!(settings.get("segment_bytes").unwrap().origin.to_string().ends_with("my.toml:5"));
        assert_eq!(settings.get("commit_interval_ms").unwrap().origin, Origin::Default);
        assert!(settings.data_dir().is_absolute(), "a folder in a file is relative to the file");
    }

    #[test]
    fn numbers_are_taken_from_the_least_to_the_most() {
        for known in KNOWN {
            let Kind::Number(least, most) = known.kind else { continue };
            let taken =
                [least.checked_sub(1), Some(least), Some(least + 1), Some(most - 1), Some(most), Some(most + 1)];
            for (number, fits) in taken.into_iter().zip([false, true, true, true, true, false]) {
                let Some(number) = number else { continue };
                let loaded = load(&[(known.name, &number.to_string())], &[], "");
                assert_eq!(loaded.is_ok(), fits, "{} = {number}: {loaded:?}", known.name);
            }
        }
    }

    #[test]
    fn unknown_keys_are_errors_with_line_and_suggestion() {
        let error = load(&[], &[], "threads = 2\n\ncommit_intervall = 5\n").unwrap_err().to_string();
        assert!(
            error.contains("my.toml:3: there is no setting \"commit_intervall\"; did you mean commit_interval_ms?"),
            "{error}"
        );
    }

    #[test]
    fn unknown_variables_are_errors_with_a_suggestion() {
        let error = load(&[], &[("GRETCHEN_DATADIR", "d"), ("PATH", "/bin")], "").unwrap_err().to_string();
        assert_eq!(
            error,
            "the environment sets GRETCHEN_DATADIR, which is no setting; did you mean GRETCHEN_DATA_DIR?"
        );
        let error = load(&[], &[("GRETCHEN_XYZ", "d")], "").unwrap_err().to_string();
        assert!(error.contains("known are GRETCHEN_DATA_DIR, GRETCHEN_BACKEND,"), "{error}");
    }

    #[test]
    fn wrong_values_say_what_is_expected_and_where() {
        for (file, wanted) in [
            ("threads = 0", "my.toml:1: threads is \"0\"; it must be a whole number from 1 to 1024"),
            ("\nthreads = \"2\"", "my.toml:2: threads must be a whole number without quotes, this is a string"),
            ("durability = \"sync\"", "durability is \"sync\"; it must be one of fsync, os"),
            ("a = [", "my.toml:1: "),
        ] {
            let error = load(&[], &[], file).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
        let error = load(&[], &[("GRETCHEN_THREADS", "many")], "").unwrap_err().to_string();
        assert_eq!(error, "GRETCHEN_THREADS: threads is \"many\"; it must be a whole number from 1 to 1024");
        let error = load(&[("threads", "x")], &[], "").unwrap_err().to_string();
        assert!(error.starts_with("--threads: "), "{error}");
    }
}
