//! A program of a run: its words are read as it says them, its errors go into a log.
//!
//! In: a command, and where the log goes. Out: the process and its standard output.

use std::fs::File;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use super::RunError;

/// Starts a program.
///
/// # Errors
/// When the log cannot be written, or the program not started.
pub(super) fn start(mut command: Command, log: &Path) -> Result<(Child, ChildStdout), RunError> {
    let file = File::create(log).map_err(|error| RunError::Write {
        path: log.to_owned(),
        error,
    })?;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(file)
        .spawn()
        .map_err(|error| RunError::Program {
            program: command.get_program().into(),
            error,
        })?;
    let stdout = child.stdout.take().ok_or_else(|| RunError::Program {
        program: command.get_program().into(),
        error: std::io::ErrorKind::BrokenPipe.into(),
    })?;
    Ok((child, stdout))
}
