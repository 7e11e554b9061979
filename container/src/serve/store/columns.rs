//! Conversions between types of ours and columns of SQLite.

use std::str::FromStr;

use rusqlite::Row;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};

use crate::serve::submission::{Kind, Stage, SubmissionId};

/// Reads a text that has a rule of its own.
pub(super) fn parse_column<T: FromStr>(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<T>>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text: Option<String> = row.get(index)?;
    text.map(|text| text.parse())
        .transpose()
        .map_err(|error: T::Err| {
            let kind = rusqlite::types::Type::Text;
            rusqlite::Error::FromSqlConversionFailure(index, kind, error.into())
        })
}

impl ToSql for SubmissionId {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        self.0.to_sql()
    }
}

impl FromSql for SubmissionId {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_i64().map(Self)
    }
}

impl ToSql for Kind {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.name().into())
    }
}

impl FromSql for Kind {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let all = [Self::Message, Self::Task];
        named(value, all.map(|kind| (kind.name(), kind)))
    }
}

impl ToSql for Stage {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.name().into())
    }
}

impl FromSql for Stage {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let all = [Self::Queued, Self::Running, Self::Done, Self::Dead];
        named(value, all.map(|stage| (stage.name(), stage)))
    }
}

fn named<T, const N: usize>(value: ValueRef<'_>, names: [(&str, T); N]) -> FromSqlResult<T> {
    let text = value.as_str()?;
    let mut names = names.into_iter();
    let found = names.find(|(name, _)| *name == text);
    found
        .map(|(_, value)| value)
        .ok_or(FromSqlError::InvalidType)
}
