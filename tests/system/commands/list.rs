//! Every command of the binary with a real invocation, for the tests of the command line: here and in `src/arguments/`.

/// A command.
pub struct Command {
    /// Its words.
    pub path: &'static str,
    /// Its arguments, as a shell would split them. `{...}` stands for a value of the test.
    pub arguments: &'static str,
    /// Its output with `--output json`.
    pub shows: Shows,
}

/// The output of a command with `--output json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shows {
    /// One document.
    Document,
    /// One document a line, until it is interrupted.
    Lines,
    /// None: it serves.
    Nothing,
}

const fn document(path: &'static str, arguments: &'static str) -> Command {
    Command { path, arguments, shows: Shows::Document }
}

const fn lines(path: &'static str, arguments: &'static str) -> Command {
    Command { path, arguments, shows: Shows::Lines }
}

const fn nothing(path: &'static str, arguments: &'static str) -> Command {
    Command { path, arguments, shows: Shows::Nothing }
}

/// All of them, in an order in which they can be run one after the other.
pub const COMMANDS: &[Command] = &[
    nothing("up", ""),
    nothing("serve", "seats"),
    document("config", ""),
    document("campus generate", "{made} --students 30 --sections 10 --seed 7"),
    document("import", "{campus}"),
    document("sections show", "A"),
    document("sections set-capacity", "A 8"),
    lines("sections watch", "A"),
    document("register", "S1 --add B"),
    document("registration show", "{registration}"),
    document("registration list", "S1"),
    document("registration pause", "--sentence 'One moment.' --reason 'ticket 7' --by ada"),
    document("registration close", "--sentence 'Come back on Monday.' --reason 'ticket 7' --by ada"),
    document("registration open", "--reason 'ticket 7' --by ada"),
    document("registration door", "--limit 3"),
    document("hold set", "S1 library --text 'Unpaid fine: pay at the desk' --reason 'ticket 7' --by ada"),
    document("hold list", "S1"),
    document("hold lift", "S1 library --reason paid --by ada"),
    document(
        "override grant",
        "S1 CLOSED_SECTION --section A --until 2099-01-01T00:00:00Z --reason 'ticket 7' --by ada",
    ),
    document("override list", "S1"),
    document("student show", "S1"),
    document("rush", "{campus} --speed 1000x"),
    document("audit", ""),
    document("archive list", ""),
    document("archive show", "{archived}"),
    document("database compact", ""),
    document("saga list", "--unfinished"),
    document("saga show", "{stuck1}"),
    document("saga explain", "{stuck1}"),
    lines("saga watch", "--needs-attention"),
    document("saga destinations", ""),
    document("saga retry", "{stuck1} notify --reason 'ticket 7' --by ada"),
    document("saga skip", "{stuck2} notify --reason 'ticket 7' --by ada --yes"),
    document("saga resolve", "{stuck3} notify --done --reason 'ticket 7' --by ada --yes"),
    document("saga abandon", "{stuck4} --reason 'ticket 7' --by ada --yes"),
    document("saga limit", "fees 0"),
    document("saga cancel", "{parked} --reason 'ticket 7' --by ada"),
];
