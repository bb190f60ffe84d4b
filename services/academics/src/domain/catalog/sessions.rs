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

    /// The sessions in which the credits of a term add up, from the inside out: the last one is the outermost term or
    /// semester. A session that is in none stands for itself.
    pub fn credit_sessions(&self, id: &TermId) -> impl Iterator<Item = &Term> {
        let counts = |session: &Term| matches!(session.kind, TermKind::Term | TermKind::Semester);
        let outermost = self.sessions(id).enumerate().filter(|(_, session)| counts(session)).last();
        self.sessions(id).take(outermost.map_or(1, |(depth, _)| depth + 1))
    }

    /// The session that an import has closed and that the term is, or is in.
    pub fn closed_session(&self, term: &TermId) -> Option<&Term> {
        self.sessions(term).find(|session| session.closed)
    }
}
