//! The rows that a batch has loaded, and what its operations made of them.

use std::collections::BTreeMap;

/// What has to be written of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowState {
    /// Nothing: it is as it was loaded.
    Kept,
    /// It was loaded and has changed.
    Changed,
    /// It was not there.
    New,
}

impl RowState {
    /// The row has changed. A new row stays new.
    pub fn change(&mut self) {
        if *self == Self::Kept {
            *self = Self::Changed;
        }
    }
}

/// Rows of one table, in the order of their keys.
#[derive(Debug)]
pub struct LoadedRows<K, V> {
    rows: BTreeMap<K, (V, RowState)>,
}

impl<K: Ord, V> FromIterator<(K, V)> for LoadedRows<K, V> {
    /// The rows as they were loaded.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(loaded: I) -> Self {
        Self { rows: loaded.into_iter().map(|(key, row)| (key, (row, RowState::Kept))).collect() }
    }
}

impl<K: Ord, V> LoadedRows<K, V> {
    /// Adds a row that was not there.
    pub fn insert(&mut self, key: K, row: V) {
        self.rows.insert(key, (row, RowState::New));
    }

    /// The row of a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.rows.get(key).map(|(row, _)| row)
    }

    /// The row of a key, to be changed.
    pub fn change(&mut self, key: &K) -> Option<&mut V> {
        let (row, state) = self.rows.get_mut(key)?;
        state.change();
        Some(row)
    }

    /// Changes the row of a key by `how`, which returns whether it has changed anything; `None` when there is no row.
    pub fn change_if(&mut self, key: &K, how: impl FnOnce(&mut V) -> bool) -> Option<()> {
        let (row, state) = self.rows.get_mut(key)?;
        if how(row) {
            state.change();
        }
        Some(())
    }

    /// The keys with their rows from `first` on.
    pub fn starting_at(&self, first: K) -> impl Iterator<Item = (&K, &V)> {
        self.rows.range(first..).map(|(key, (row, _))| (key, row))
    }

    /// Every row.
    pub fn rows(&self) -> impl Iterator<Item = &V> {
        self.rows.values().map(|(row, _)| row)
    }

    /// The rows of which `state` has to be written.
    pub fn in_state(&self, state: RowState) -> impl Iterator<Item = &V> {
        self.rows.values().filter(move |(_, its)| *its == state).map(|(row, _)| row)
    }

    /// The rows that are new or have changed.
    pub fn to_write(&self) -> impl Iterator<Item = &V> {
        self.rows.values().filter(|(_, state)| *state != RowState::Kept).map(|(row, _)| row)
    }

    /// The same, as they are now.
    pub fn into_written(self) -> impl Iterator<Item = V> {
        self.rows.into_values().filter(|(_, state)| *state != RowState::Kept).map(|(row, _)| row)
    }
}
