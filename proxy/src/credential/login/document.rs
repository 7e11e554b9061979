//! A JSON file with tokens in it. Fields that are not ours stay as they are.

use std::fmt;

use crate::secret::{InvalidSecret, Secret};
use serde_json::{Map, Value};
use zeroize::{Zeroize as _, Zeroizing};

/// A JSON object whose strings are cleared from memory when it is dropped.
pub(super) struct Document(Value);

/// Why a login file cannot be used. It never holds a part of the file.
#[derive(Debug, thiserror::Error)]
pub(super) enum DocumentError {
    /// The parser's own message would quote the file.
    #[error("it is not valid JSON at line {line}, column {column}")]
    NotJson { line: usize, column: usize },
    #[error("it is not a JSON object")]
    NotAnObject,
    #[error("it has no object {0}")]
    NoObject(&'static str),
    #[error("it has neither {0} nor a refresh token")]
    NoToken(&'static str),
    #[error("its field {field} is not a credential")]
    BadSecret {
        field: &'static str,
        source: InvalidSecret,
    },
    #[error("its field {0} is not a time")]
    BadTime(&'static str),
}

impl Document {
    pub(super) fn parse(content: &[u8]) -> Result<Self, DocumentError> {
        serde_json::from_slice(content)
            .map(Self)
            .map_err(|error| DocumentError::NotJson {
                line: error.line(),
                column: error.column(),
            })
    }

    /// The object at `path`; the document itself when the path is empty.
    pub(super) fn object(&self, path: &'static str) -> Result<&Map<String, Value>, DocumentError> {
        let object = if path.is_empty() {
            self.0.as_object()
        } else {
            self.0.get(path).and_then(Value::as_object)
        };
        object.ok_or_else(|| missing(path))
    }

    pub(super) fn object_mut(
        &mut self,
        path: &'static str,
    ) -> Result<&mut Map<String, Value>, DocumentError> {
        let object = if path.is_empty() {
            self.0.as_object_mut()
        } else {
            self.0.get_mut(path).and_then(Value::as_object_mut)
        };
        object.ok_or_else(|| missing(path))
    }

    pub(super) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        // With room for all of it, no copy is left behind in a buffer that grew.
        let room = length(&self.0) * 2 + 1024;
        let mut bytes = Zeroizing::new(Vec::with_capacity(room));
        if serde_json::to_writer_pretty(&mut *bytes, &self.0).is_ok() {
            bytes.push(b'\n');
        }
        bytes
    }
}

const fn missing(path: &'static str) -> DocumentError {
    if path.is_empty() {
        DocumentError::NotAnObject
    } else {
        DocumentError::NoObject(path)
    }
}

/// The credential in a field; absent, null and empty are the same.
pub(super) fn secret(
    object: &Map<String, Value>,
    field: &'static str,
) -> Result<Option<Secret>, DocumentError> {
    let text = object.get(field).and_then(Value::as_str);
    text.filter(|text| !text.is_empty())
        .map(Secret::new)
        .transpose()
        .map_err(|source| DocumentError::BadSecret { field, source })
}

/// Replaces a field and clears its old value.
pub(super) fn set(object: &mut Map<String, Value>, field: &str, value: impl Into<Value>) {
    if let Some(mut old) = object.insert(field.to_owned(), value.into()) {
        clear(&mut old);
    }
}

impl Drop for Document {
    fn drop(&mut self) {
        clear(&mut self.0);
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Document([REDACTED])")
    }
}

fn clear(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(values) => values.iter_mut().for_each(clear),
        Value::Object(fields) => fields.values_mut().for_each(clear),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// About the length of a value as text.
fn length(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 8,
        Value::Array(values) => values.iter().map(length).sum::<usize>() + 8,
        Value::Object(fields) => {
            let fields = fields.iter();
            fields
                .map(|(name, value)| name.len() + 16 + length(value))
                .sum::<usize>()
                + 8
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => 24,
    }
}
