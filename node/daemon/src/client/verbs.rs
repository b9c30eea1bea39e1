//! The remaining client verbs.

use std::io::Write as _;
use std::path::Path;

use catamaran_client::table::printable;
use catamaran_client::{GuestText, forward, say_guest, segment, text};
use hyper::Method;
use hyper::body::Bytes;
use serde_json::{Value, json};

use crate::args::{Apply, Dmesg, Down, Logs, Name, Output, PortForward, Screenshot, Start, Stop};
use crate::client::http::{Client, ClientError};
use crate::client::manifests;
use crate::client::names::no_machine;
use crate::client::objects::{find, say};
use crate::serve::store::Kind;

/// `apply`.
///
/// # Errors
/// When a manifest is wrong: then nothing was applied.
pub async fn apply(client: &Client, args: &Apply) -> Result<(), ClientError> {
    let manifests: Vec<Value> = manifests::read(&args.files)?
        .into_iter()
        .map(|manifest| json!({"name": manifest.name, "text": manifest.text}))
        .collect();
    let answer: Value = client
        .json(
            Method::POST,
            "/v1/apply",
            Some(&json!({"manifests": manifests, "dryRun": args.dry_run})),
        )
        .await?;
    for warning in answer["warnings"].as_array().into_iter().flatten() {
        eprintln!("Warning: {}", text(warning));
    }
    let note = if args.dry_run { " (dry run)" } else { "" };
    for result in answer["results"].as_array().into_iter().flatten() {
        say(&format!(
            "{}/{} {}{note}\n",
            text(&result["kind"]).to_lowercase(),
            text(&result["name"]),
            text(&result["outcome"])
        ))?;
    }
    Ok(())
}

/// `restart`, `pause`, `unpause`, `reset`, `soft-reboot`.
///
/// # Errors
/// When the machine's state does not allow it.
pub async fn verb(client: &Client, vm: &Name, verb: &str, body: Value) -> Result<(), ClientError> {
    let (namespace, name) = (&vm.namespace.namespace, vm.name()?);
    let path = format!(
        "/v1/machines/{}/{}/{verb}",
        segment(namespace),
        segment(name)
    );
    let answer: Value = match client.json(Method::PUT, &path, Some(&body)).await {
        Ok(answer) => answer,
        Err(error) => return Err(no_machine(client, error, namespace, name).await),
    };
    say(&format!("{name}: {}\n", text(&answer["message"])))
}

/// `start`.
///
/// # Errors
/// As [`verb`].
pub async fn start(client: &Client, args: &Start) -> Result<(), ClientError> {
    verb(client, &args.vm, "start", json!({"paused": args.paused})).await
}

/// `stop`.
///
/// # Errors
/// As [`verb`].
pub async fn stop(client: &Client, args: &Stop) -> Result<(), ClientError> {
    let grace = if args.force {
        Some(0)
    } else {
        args.grace_period
    };
    verb(client, &args.vm, "stop", json!({"gracePeriod": grace})).await
}

/// `screenshot`.
///
/// # Errors
/// When there is no screen or the file can't be written.
pub async fn screenshot(client: &Client, args: &Screenshot) -> Result<(), ClientError> {
    let png = shown(client, &args.vm, "screenshot").await?;
    if args.file == Path::new("-") {
        return std::io::stdout()
            .write_all(&png)
            .map_err(ClientError::io("standard output"));
    }
    std::fs::write(&args.file, &png).map_err(ClientError::io(args.file.display().to_string()))
}

/// `dmesg`.
///
/// # Errors
/// When the guest's memory holds no kernel log.
pub async fn dmesg(client: &Client, args: &Dmesg) -> Result<(), ClientError> {
    let tail = args
        .tail
        .map(|bytes| format!("&tail={bytes}"))
        .unwrap_or_default();
    let question = format!("dmesg?previous={}{tail}", args.previous);
    let log = shown(client, &args.vm, &question).await?;
    say_guest(&log).map_err(ClientError::io("standard output"))
}

/// What a machine shows of itself.
async fn shown(client: &Client, vm: &Name, question: &str) -> Result<Bytes, ClientError> {
    let (namespace, name) = (&vm.namespace.namespace, vm.name()?);
    let path = format!(
        "/v1/machines/{}/{}/{question}",
        segment(namespace),
        segment(name)
    );
    match client.bytes(Method::GET, &path, None).await {
        Ok(bytes) => Ok(bytes),
        Err(error) => Err(no_machine(client, error, namespace, name).await),
    }
}

/// `logs`: a pod's container, or a machine's serial console.
///
/// # Errors
/// When there is no such object.
pub async fn logs(client: &Client, args: &Logs) -> Result<(), ClientError> {
    let (kind, object) = find(client, args.object.named()?, &args.object.namespace).await?;
    let group = if kind == Kind::Pod {
        "pods"
    } else {
        "machines"
    };
    let mut path = format!(
        "/v1/{group}/{}/{}/logs?follow={}&timestamps={}",
        segment(&text(&object["metadata"]["namespace"])),
        segment(&text(&object["metadata"]["name"])),
        args.follow,
        args.timestamps
    );
    if let Some(container) = &args.container {
        path.push_str(&format!("&container={}", segment(container)));
    }
    if let Some(tail) = args.tail {
        path.push_str(&format!("&tail={tail}"));
    }
    let mut out = GuestText::stdout();
    client.stream(&path, |bytes| out.say(bytes)).await
}

/// `port-forward`: until Ctrl+C.
///
/// # Errors
/// When a local port is in use or there is no such object.
pub async fn port_forward(client: &Client, args: &PortForward) -> Result<(), ClientError> {
    let (named, ports) = args.named()?;
    let (kind, object) = find(client, named, &args.namespace).await?;
    let group = if kind == Kind::Pod {
        "pods"
    } else {
        "machines"
    };
    let (namespace, name) = (
        text(&object["metadata"]["namespace"]),
        text(&object["metadata"]["name"]),
    );
    let mut running = tokio::task::JoinSet::new();
    for port in ports {
        let (listener, bound) = forward::listen(args.address, port.local).await?;
        say(&format!("Forwarding from {bound} -> {}\n", port.target))?;
        let path = format!(
            "/v1/{group}/{}/{}/portforward/{}",
            segment(&namespace),
            segment(&name),
            port.target
        );
        let client = client.clone();
        running.spawn(forward::pass_on(listener, move || {
            client.clone().stream_to(path.clone())
        }));
    }
    while let Some(ended) = running.join_next().await {
        ended.map_err(|error| ClientError::Usage(error.to_string()))??;
    }
    Ok(())
}

/// `host`: asks the daemon when there is one, else looks for itself.
///
/// # Errors
/// When the daemon's answer is not understood.
pub async fn host(client: &Client, output: Output) -> Result<(), ClientError> {
    let report: Value = match client.json(Method::GET, "/v1/host", None).await {
        Ok(report) => report,
        Err(ClientError::NoDaemon { .. }) => crate::serve::host::report(None),
        Err(error) => return Err(error),
    };
    if let Some(text) = output
        .format
        .unwrap_or_default()
        .print(&report)
        .map_err(|error| ClientError::Usage(error.to_string()))?
    {
        return say(&text);
    }
    let mut out = String::new();
    for line in report["lines"].as_array().into_iter().flatten() {
        let mark = if line["ok"].as_bool().unwrap_or(false) {
            "yes"
        } else {
            "no "
        };
        out.push_str(&format!(
            "{mark}  {:<22} {}\n",
            text(&line["what"]),
            text(&line["why"])
        ));
    }
    say(&out)
}

/// `down`.
///
/// # Errors
/// When there is no daemon.
pub async fn down(client: &Client, args: &Down) -> Result<(), ClientError> {
    client
        .stream_post(
            "/v1/down",
            &json!({"delete": args.delete, "volumes": args.volumes}),
            |bytes| {
                eprint!("{}", printable_lines(bytes));
                Ok(())
            },
        )
        .await
}

fn printable_lines(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .split_inclusive('\n')
        .map(|line| {
            line.strip_suffix('\n')
                .map_or_else(|| printable(line), |line| printable(line) + "\n")
        })
        .collect()
}
