//! What a statement is given: scalars first (`$1`, `$2`, ...), then the columns of `{rows}`.

/// The arguments of one statement.
#[derive(Debug, Clone, Default)]
pub struct Args {
    pub(super) scalars: Vec<Scalar>,
    pub(super) rows: Option<Rows>,
}

/// One value.
#[derive(Debug, Clone)]
pub(super) enum Scalar {
    Text(Option<String>),
    Int(Option<i64>),
}

/// Rows for `{rows}`, column by column.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    pub(super) columns: Vec<(&'static str, Column)>,
}

/// The values of one column.
#[derive(Debug, Clone)]
pub(super) enum Column {
    Text(Texts),
    Int(Vec<Option<i64>>),
}

/// Texts or NULLs, one after the other in one piece of memory: a batch has thousands of them.
#[derive(Debug, Clone)]
pub(super) struct Texts {
    all: String,
    /// Where each ends, and whether it is a text.
    ends: Vec<(usize, bool)>,
}

/// Most texts are ids: room for so many bytes of each from the start.
const TEXT_USUAL: usize = 40;

impl Texts {
    fn with_room_for(count: usize) -> Self {
        Self { all: String::with_capacity(count * TEXT_USUAL), ends: Vec::with_capacity(count) }
    }

    fn push(&mut self, value: Option<&str>) {
        self.all.push_str(value.unwrap_or_default());
        self.ends.push((self.all.len(), value.is_some()));
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Option<&str>> {
        let mut begins = 0;
        self.ends.iter().map(move |(ends, is_text)| {
            let text = &self.all[begins..*ends];
            begins = *ends;
            is_text.then_some(text)
        })
    }
}

impl Args {
    /// No arguments.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next scalar, a text.
    pub fn text(mut self, value: impl Into<String>) -> Self {
        self.scalars.push(Scalar::Text(Some(value.into())));
        self
    }

    /// The next scalar, a text or NULL.
    pub fn opt_text(mut self, value: Option<String>) -> Self {
        self.scalars.push(Scalar::Text(value));
        self
    }

    /// The next scalar, an integer.
    pub fn int(mut self, value: i64) -> Self {
        self.scalars.push(Scalar::Int(Some(value)));
        self
    }

    /// The rows of `{rows}`. A statement with no rows at all is not sent: it would change nothing.
    pub fn rows(mut self, rows: Rows) -> Self {
        self.rows = Some(rows);
        self
    }

    pub(super) fn is_no_rows(&self) -> bool {
        self.rows.as_ref().is_some_and(|rows| rows.len() == 0)
    }
}

impl From<Rows> for Args {
    fn from(rows: Rows) -> Self {
        Self::new().rows(rows)
    }
}

impl Rows {
    /// No columns yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a column of texts, called `name` in the statement.
    pub fn text<S: AsRef<str>>(self, name: &'static str, values: impl IntoIterator<Item = S>) -> Self {
        self.opt_text(name, values.into_iter().map(Some))
    }

    /// Adds a column of texts or NULLs.
    pub fn opt_text<S: AsRef<str>>(mut self, name: &'static str, values: impl IntoIterator<Item = Option<S>>) -> Self {
        let values = values.into_iter();
        let mut texts = Texts::with_room_for(values.size_hint().0);
        for value in values {
            texts.push(value.as_ref().map(AsRef::as_ref));
        }
        self.columns.push((name, Column::Text(texts)));
        self
    }

    /// Adds a column of integers.
    pub fn int(mut self, name: &'static str, values: impl IntoIterator<Item = i64>) -> Self {
        self.columns.push((name, Column::Int(values.into_iter().map(Some).collect())));
        self
    }

    /// Adds a column of integers or NULLs.
    pub fn opt_int(mut self, name: &'static str, values: impl IntoIterator<Item = Option<i64>>) -> Self {
        self.columns.push((name, Column::Int(values.into_iter().collect())));
        self
    }

    /// How many rows there are.
    ///
    /// # Panics
    /// When the columns are not of one length: that is a fault of the caller, and would misplace values.
    pub(super) fn len(&self) -> usize {
        let mut lengths = self.columns.iter().map(|(_, column)| match column {
            Column::Text(values) => values.len(),
            Column::Int(values) => values.len(),
        });
        let length = lengths.next().unwrap_or(0);
        assert!(lengths.all(|other| other == length), "the columns of a statement differ in length");
        length
    }
}
