//! nftables, by the `nft` tool: scripts that the kernel takes whole or not at all.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use crate::error::Error;

/// Makes the table anew with the given body, in one transaction: no packet sees it half done.
pub(crate) fn replace_table(family: &str, table: &str, body: &str) -> Result<(), Error> {
    // `add` before `delete`: a table that is not there cannot be deleted.
    let script = format!(
        "add table {family} {table}\ndelete table {family} {table}\ntable {family} {table} {{\n{body}}}\n"
    );
    run(&format!("write the table {family} {table}"), &script)
}

/// Deletes a table; none there is fine.
pub(crate) fn delete_table(family: &str, table: &str) -> Result<(), Error> {
    let script = format!("add table {family} {table}\ndelete table {family} {table}\n");
    run(&format!("delete the table {family} {table}"), &script)
}

/// All tables of the namespace, as `family name`.
pub(crate) fn tables() -> Result<Vec<String>, Error> {
    let output = Command::new("nft")
        .args(["list", "tables"])
        .stdin(Stdio::null())
        .output()
        .map_err(Error::system("run nft"))?;
    let output = check("nft", "list the tables", &output)?;
    Ok(output
        .lines()
        .filter_map(|line| line.strip_prefix("table "))
        .map(str::to_owned)
        .collect())
}

fn run(action: &str, script: &str) -> Result<(), Error> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Error::system("run nft"))?;
    if let Some(mut input) = child.stdin.take() {
        // An nft that gave up early closes the pipe; its own words say more than EPIPE.
        let _ = input.write_all(script.as_bytes());
    }
    let output = child
        .wait_with_output()
        .map_err(Error::system("wait for nft"))?;
    check("nft", action, &output).map(|_| ())
}

/// Shapes the end of a tool.
pub(crate) fn check(program: &'static str, action: &str, output: &Output) -> Result<String, Error> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let stderr = if stderr.is_empty() {
        output.status.to_string()
    } else {
        stderr
    };
    Err(Error::Tool {
        program,
        action: action.to_owned(),
        stderr,
    })
}
