//! Checks the command tree: every command has examples, and every command that shows something has JSON, shown by a
//! real invocation in `tests/system/commands.rs`.

use std::collections::BTreeSet;

use clap::CommandFactory as _;

use super::*;

#[expect(dead_code, reason = "the system tests run this list; here only the paths are read")]
#[path = "../../tests/system/commands/list.rs"]
mod list;

/// Every command without subcommands, with its path.
fn leaves(command: &clap::Command, path: &str, found: &mut Vec<(String, clap::Command)>) {
    let children: Vec<&clap::Command> = command.get_subcommands().filter(|child| child.get_name() != "help").collect();
    if children.is_empty() {
        found.push((path.trim_start().to_owned(), command.clone()));
    }
    for child in children {
        leaves(child, &format!("{path} {}", child.get_name()), found);
    }
}

fn all() -> Vec<(String, clap::Command)> {
    let mut found = Vec::new();
    leaves(&Arguments::command(), "", &mut found);
    found
}

#[test]
fn the_arguments_are_sound() {
    Arguments::command().debug_assert();
}

#[test]
fn every_command_is_in_the_list_of_real_invocations() {
    let commands: BTreeSet<String> = all().into_iter().map(|(path, _)| path).collect();
    let listed: BTreeSet<String> = list::COMMANDS.iter().map(|command| command.path.to_owned()).collect();
    assert_eq!(listed, commands, "tests/system/commands/list.rs must list each command with an invocation");
}

#[test]
fn every_command_has_examples_that_can_be_read() {
    for (path, command) in all() {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let examples: Vec<&str> = help.lines().map(str::trim).filter(|line| line.starts_with("matricula ")).collect();
        assert!(help.contains("Example") && !examples.is_empty(), "{path} has no example");
        for example in examples {
            // Three spaces begin a remark. The placeholder ID is replaced by a prefix of valid length.
            let words = example.split("   ").next().unwrap_or_default().replace(" ID", " 01a2");
            let words = shlex::split(&words).unwrap_or_else(|| panic!("{path}: {example}"));
            assert!(words[1..].join(" ").starts_with(&path), "{path}: {example} is an example of another command");
            if let Err(problem) = Arguments::try_parse_from(&words) {
                panic!("{path}: {example} can't be read: {problem}");
            }
        }
    }
}

#[test]
fn a_prefix_of_an_id_has_a_minimum_length() {
    for (typed, is_taken) in [("", false), ("01a", false), ("01a2", true), ("nobody", true)] {
        assert_eq!(id_or_prefix(typed).is_ok(), is_taken, "{typed:?}");
    }
}
