//! How a schema becomes a version of a subject, and what is said where it may not.

use super::{Registered, Registry, SchemaText};
use crate::error::{Error, ErrorKind, Result};
use crate::record::{DynamicSchema, incompatibilities};

impl Registry {
    /// The number of a schema for values of a topic, by the topic's name in the store. It is registered if the registry
    /// does not have it and the options allow it.
    pub fn enrol(&self, topic: &str, schema: &DynamicSchema) -> Result<u32> {
        let subject = self.options().naming.subject(topic, &schema.name());
        let text = SchemaText::new(&*schema.json(), Vec::new());
        if self.options().register {
            return self.register(&subject, &text, schema);
        }
        match self.find(&subject, &text) {
            Ok(found) => Ok(found.id),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let found = self.find_in_other_words(&subject, schema)?;
                found.map(|found| found.id).ok_or_else(|| self.not_there(&subject, schema))
            }
            Err(error) => Err(error),
        }
    }

    /// Makes a schema a version of the subject, unless it is one already, and returns its number. `schema` is the whole of
    /// the text, for an error that names it and the version that it does not fit.
    pub fn register(&self, subject: &str, text: &SchemaText, schema: &DynamicSchema) -> Result<u32> {
        self.add(subject, text).map_err(|error| match error.kind() {
            ErrorKind::Schema => self.refused(subject, schema, error),
            _ => error,
        })
    }

    /// The newest version of the subject that is the same schema in other words: registries compare texts.
    fn find_in_other_words(&self, subject: &str, schema: &DynamicSchema) -> Result<Option<Registered>> {
        let versions = match self.versions(subject) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            versions => versions?,
        };
        for version in versions.into_iter().rev() {
            let found = self.version(subject, Some(version))?;
            match self.whole(subject, &found.text) {
                Ok(whole) if whole == *schema => return Ok(Some(found)),
                Err(error) if error.kind() != ErrorKind::Schema => return Err(error),
                _ => {}
            }
        }
        Ok(None)
    }

    fn not_there(&self, subject: &str, schema: &DynamicSchema) -> Error {
        let message = format!(
            "subject {subject} of {} has no version that is {} ({:016x}), which is to be written, and registry_register \
             is false: register it with `schema register FILE --subject {subject}`, or let registry_register be true",
            self.name(),
            schema.name(),
            schema.fingerprint()
        );
        Error::new(ErrorKind::Schema, message)
    }

    /// What the registry says of a schema that it refuses, with the one that it is held against.
    fn refused(&self, subject: &str, schema: &DynamicSchema, error: Error) -> Error {
        let mut message =
            format!("{} ({:016x}) cannot become a version of subject {subject}", schema.name(), schema.fingerprint());
        let latest = self.version(subject, None).and_then(|latest| {
            let whole = self.whole(subject, &latest.text)?;
            Ok((latest, whole))
        });
        // Without the other one what the registry says must do.
        if let Ok((latest, whole)) = latest {
            message.push_str(&format!(
                " beside version {}, {} ({:016x}, schema {})",
                latest.version,
                whole.name(),
                whole.fingerprint(),
                latest.id
            ));
            let problems = incompatibilities(&whole, schema).into_iter().chain(incompatibilities(schema, &whole));
            if let Some(problem) = problems.into_iter().next() {
                message.push_str(&format!(": {problem}"));
            }
        }
        message.push_str("; `schema compatibility` shows what the registry asks for");
        Error::new(ErrorKind::Schema, message).with_source(error)
    }
}
