//! Where a value comes from that staff and imports can both set.

use matricula_proto::common::v1 as wire;

use crate::named::NamedValue;

/// The source of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Source {
    /// An import: a later bundle changes it.
    Bundle,
    /// Staff, by an RPC: no bundle changes it.
    Staff,
}

impl NamedValue for Source {
    const NAMES: &'static [(Self, &'static str)] = &[(Self::Bundle, "BUNDLE"), (Self::Staff, "STAFF")];
}

impl Source {
    /// The source on the wire.
    pub fn to_wire(self) -> wire::Source {
        match self {
            Self::Bundle => wire::Source::Bundle,
            Self::Staff => wire::Source::Staff,
        }
    }
}
