//! `bundle`: what support needs in one archive: objects, events, logs of launcher pods and of Catamaran itself, versions, and the answer of
//! `why` for each machine.
//!
//! No Secret and no ConfigMap is read, and what objects hold of secrets themselves is blotted out (`blot`). What the user may not read is
//! left out and listed in `left-out.txt`. Guests' serial output is not taken: it may show anything.

use std::io::Write as _;
use std::path::Path;

use catamaran_client::{Format, say_bytes, segment};
use hyper::Method;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::args::Bundle;
use crate::connection::{Connection, Seen};
use crate::error::Error;
use crate::list::items;
use crate::target::{Kind, Target, object, objects};
use crate::why;

mod archive;
mod blot;

use archive::Archive;
use blot::Blotter;

/// Container whose output is the guest's.
const GUEST_CONSOLE: &str = "guest-console-log";
/// Longest log, bytes.
const LOG_BYTES: u32 = 10 << 20;

/// `bundle`.
pub(crate) async fn run(connection: &Connection, args: &Bundle) -> Result<(), Error> {
    let collector = Collector {
        connection,
        args,
        blotter: Blotter::default(),
        files: Vec::new(),
        left_out: Vec::new(),
    };
    let files = collector.collect().await?;
    let count = files.len();
    let archive = Archive::of(&files, Timestamp::now()).map_err(Error::io("the archive"))?;
    if args.file == Path::new("-") {
        return say_bytes(&archive).map_err(Error::io("standard output"));
    }
    let name = args.file.display().to_string();
    write(&args.file, &archive).map_err(Error::io(name.clone()))?;
    eprintln!(
        "{name}: {count} files; secrets are blotted out, but look through it before you pass it on."
    );
    Ok(())
}

/// Only the user may read it.
fn write(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o600);
    options.open(file)?.write_all(bytes)
}

struct Collector<'a> {
    connection: &'a Connection,
    args: &'a Bundle,
    blotter: Blotter,
    /// Path in the archive, and content before logs are blotted.
    files: Vec<(String, String)>,
    left_out: Vec<String>,
}

impl Collector<'_> {
    /// All files. Objects come first: what they hold of secrets is looked for in all that follows.
    async fn collect(mut self) -> Result<Vec<(String, String)>, Error> {
        let namespace = self.connection.namespace().to_owned();
        let machines = self.machines(&namespace).await?;
        let kubevirt = |plural: &str| objects("kubevirt.io/v1", Some(&namespace), plural);
        let core = |plural: &str| objects("v1", Some(&namespace), plural);
        let wanted = &self.args.names;
        let named = |object: &Value| {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            wanted.is_empty() || wanted.iter().any(|wanted| wanted == name)
        };
        let of_machine = |pod: &Value| {
            let label = pod["metadata"]["labels"]["vm.kubevirt.io/name"].as_str();
            let name = label.unwrap_or_default();
            label.is_some() && (wanted.is_empty() || wanted.iter().any(|wanted| wanted == name))
        };
        let instances = self.list(&kubevirt("virtualmachineinstances")).await?;
        let instances: Vec<Value> = instances.into_iter().filter(named).collect();
        let pods = self.list(&core("pods")).await?;
        let pods: Vec<Value> = pods.into_iter().filter(of_machine).collect();
        self.objects("virtualmachines", &machines)?;
        self.objects("virtualmachineinstances", &instances)?;
        self.objects("pods", &pods)?;
        for plural in ["persistentvolumeclaims", "services", "events"] {
            let found = self.list(&core(plural)).await?;
            self.objects(plural, &found)?;
        }
        for path in [
            objects("v1", None, "nodes"),
            objects("kubevirt.io/v1", None, "kubevirts"),
        ] {
            let found = self.list(&path).await?;
            let plural = path.rsplit('/').next().unwrap_or_default();
            self.objects(plural, &found)?;
        }
        self.logs("logs", &namespace, &pods).await?;
        self.system().await?;
        self.reasons(&machines, &instances).await?;
        self.versions().await?;
        let Self {
            blotter,
            mut files,
            left_out,
            ..
        } = self;
        if !left_out.is_empty() {
            files.push(("left-out.txt".to_owned(), left_out.join("\n") + "\n"));
        }
        for (_, content) in &mut files {
            *content = blotter.text(content);
        }
        Ok(files)
    }

    /// The machines that are named, or all. Who may not even list them gets a refusal instead of an empty archive.
    async fn machines(&self, namespace: &str) -> Result<Vec<Value>, Error> {
        let plural = "virtualmachines";
        if self.args.names.is_empty() {
            let path = objects("kubevirt.io/v1", Some(namespace), plural);
            return Ok(items(self.connection.get(&path).await?));
        }
        let mut found = Vec::new();
        for name in &self.args.names {
            let path = object("kubevirt.io/v1", namespace, plural, name);
            match self.connection.look(&path).await? {
                Seen::There(machine) => found.push(machine),
                Seen::Hidden | Seen::Missing => {
                    let path = object("kubevirt.io/v1", namespace, "virtualmachineinstances", name);
                    self.connection.get(&path).await?;
                }
            }
        }
        Ok(found)
    }

    async fn list(&mut self, path: &str) -> Result<Vec<Value>, Error> {
        match self.connection.look(path).await? {
            Seen::There(list) => Ok(items(list)),
            Seen::Missing => Ok(Vec::new()),
            Seen::Hidden => {
                self.left_out.push(format!("{path}: may not be read"));
                Ok(Vec::new())
            }
        }
    }

    fn objects(&mut self, plural: &str, found: &[Value]) -> Result<(), Error> {
        for value in found {
            let mut value = value.clone();
            self.blotter.object(&mut value);
            let name = value["metadata"]["name"].as_str().unwrap_or_default();
            let path = format!("objects/{plural}/{name}.yaml");
            let text = Format::Yaml.print(&value)?.unwrap_or_default();
            self.files.push((path, text));
        }
        Ok(())
    }

    async fn logs(&mut self, folder: &str, namespace: &str, pods: &[Value]) -> Result<(), Error> {
        for pod in pods {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            let path = object("v1", namespace, "pods", name);
            let containers = pod["spec"]["containers"].as_array();
            for container in containers.into_iter().flatten() {
                let container = container["name"].as_str().unwrap_or_default();
                if container == GUEST_CONSOLE {
                    continue;
                }
                for (previous, suffix) in [(false, "log"), (true, "previous.log")] {
                    let path = format!(
                        "{path}/log?container={}&tailLines={}&limitBytes={LOG_BYTES}&timestamps=true&previous={previous}",
                        segment(container),
                        self.args.log_lines,
                    );
                    match self.connection.bytes(Method::GET, &path, None).await {
                        Ok(log) => {
                            let file = format!("{folder}/{name}/{container}.{suffix}");
                            let text = String::from_utf8_lossy(&log).into_owned();
                            self.files.push((file, text));
                        }
                        // No container ran before.
                        Err(_) if previous => {}
                        Err(error) => self.left_out.push(format!("{path}: {}", error.line())),
                    }
                }
            }
        }
        Ok(())
    }

    /// Pods and logs of Catamaran itself, where they may be read.
    async fn system(&mut self) -> Result<(), Error> {
        let namespace = self.args.system_namespace.clone();
        let pods = self.list(&objects("v1", Some(&namespace), "pods")).await?;
        self.objects("system-pods", &pods)?;
        self.logs("system-logs", &namespace, &pods).await
    }

    async fn reasons(&mut self, machines: &[Value], instances: &[Value]) -> Result<(), Error> {
        let mut text = String::new();
        let mut names: Vec<&str> = machines
            .iter()
            .chain(instances)
            .filter_map(|object| object["metadata"]["name"].as_str())
            .collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let target = Target {
                kind: Kind::Machine,
                name: name.to_owned(),
                namespace: None,
            };
            let facts = why::facts(self.connection, &target).await?;
            text.push_str(&format!("{}\n", why::why(&facts)));
        }
        self.files.push(("why.txt".to_owned(), text));
        Ok(())
    }

    async fn versions(&mut self) -> Result<(), Error> {
        let mut versions = json!({"plugin": env!("CARGO_PKG_VERSION")});
        for (name, path) in [
            ("kubernetes", "/version"),
            ("catamaran", "/apis/subresources.kubevirt.io/v1/version"),
        ] {
            match self.connection.get(path).await {
                Ok(version) => versions[name] = version,
                // A bundle is made when something is broken.
                Err(error) => self.left_out.push(format!("{path}: {}", error.line())),
            }
        }
        let text = Format::Yaml.print(&versions)?.unwrap_or_default();
        self.files.push(("versions.yaml".to_owned(), text));
        Ok(())
    }
}
