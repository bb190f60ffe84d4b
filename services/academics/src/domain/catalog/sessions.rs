//! Sessions within sessions: a half of a semester, the semester, its school year.

use matricula_kit::id::TermId;

use super::{Catalog, Term, TermKind};

impl Catalog {
    /// The sessions with this id and around it, from the inside out. `merged` allows no circle; the bound is for
    /// completeness.
    pub fn sessions(&self, id: &TermId) -> impl Iterator<Item = &Term> {
        let parent = |term: &&Term| term.parent.as_ref().and_then(|parent| self.term(parent));
        std::iter::successors(self.term(id), parent).take(self.terms.len())
    }

    /// The session in which credits add up: the outermost term or semester. A session that is in none stands for
    /// itself.
    pub fn credit_session<'a>(&'a self, term: &'a Term) -> &'a Term {
        let counts = |session: &&Term| matches!(session.kind, TermKind::Term | TermKind::Semester);
        self.sessions(&term.id).filter(counts).last().unwrap_or(term)
    }

    /// Whether a term is a session or is in it.
    pub fn is_within(&self, term: &TermId, session: &Term) -> bool {
        *term == session.id || self.sessions(term).any(|around| around.id == session.id)
    }

    /// The session that an import has closed and that the term is, or is in.
    pub fn closed_session(&self, term: &TermId) -> Option<&Term> {
        self.sessions(term).find(|session| session.closed)
    }
}
