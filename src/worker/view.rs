//! A table as another process sees it: its stores, and the changelog's tail over them.

use std::path::Path;

use super::mark::Mark;
use super::tail::{CommitVisitor, walk};
use crate::backend::Replay;
use crate::error::Result;
use crate::record::StoredSchemas;
use crate::table::{TableDef, TableSnapshot};
use crate::topic::TopicPartition;

/// One partition of a table as of its last commit. `table` is its place among its agent's tables, `folder` holds the
/// partition's store.
///
/// `schemas` are those of the changelog. The owner is not asked and may be at work.
pub fn table_view(
    def: &TableDef,
    table: usize,
    folder: &Path,
    replay: &dyn Replay,
    changelog: &TopicPartition,
    schemas: &StoredSchemas,
) -> Result<TableSnapshot> {
    let id = replay.topic_id(&changelog.topic)?;
    let snapshot = TableSnapshot::open_of(id.as_ref(), def, folder, schemas)?;
    let offsets = replay.offsets(changelog)?;
    let from = snapshot.position()?.unwrap_or(offsets.start).max(offsets.start);
    let mut overlay = Overlay { snapshot, table };
    walk(replay, changelog, from, offsets.end, &mut overlay)?;
    Ok(overlay.snapshot)
}

struct Overlay {
    snapshot: TableSnapshot,
    table: usize,
}

impl CommitVisitor for Overlay {
    fn delta(&mut self, table: usize, key: &[u8], stored: Option<&[u8]>) -> Result<()> {
        if table == self.table {
            self.snapshot.apply(key, stored);
        }
        Ok(())
    }

    fn mark(&mut self, _: Mark, _: u64) -> Result<()> {
        Ok(())
    }
}
