//! `catamaran plan`: what would be run, without a daemon and without touching the machine.

use anyhow::{Result, anyhow};
use catamaran_client::Format;
use catamaran_plan::{HostFacts, offline_given};
use catamaran_spec::{Context, MachineSpec};

use crate::args::PlanArgs;
use crate::client::manifests;
use crate::client::objects::say;
use crate::serve::manifest;
use crate::serve::store::Kind;

/// Prints plan and domain XML of each machine of the manifests; other objects are checked.
///
/// # Errors
/// All problems of the manifests, or of the machines on this host.
pub(crate) fn plan(args: &PlanArgs) -> Result<()> {
    let texts: Vec<_> = manifests::read(&args.files)?
        .into_iter()
        .map(|text| (text.name, text.path, text.text))
        .collect();
    let documents = manifest::parse(&texts).map_err(|problems| {
        anyhow!(
            problems
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("\n")
        )
    })?;
    // The real machine where it can run guests, else an example of one.
    let facts =
        crate::serve::host::find(false).map_or_else(|_| HostFacts::offline(), |host| host.facts);
    let mut first = true;
    for document in &documents {
        for warning in &document.warnings {
            eprintln!("Warning: {warning}");
        }
        let spec = match document.key.kind {
            Kind::VirtualMachine => MachineSpec::from_vm(
                &serde_json::from_value(document.object.clone())?,
                Context::Play,
            ),
            Kind::VirtualMachineInstance => MachineSpec::from_vmi(
                &serde_json::from_value(document.object.clone())?,
                Context::Play,
            ),
            _ => continue,
        };
        let (spec, _) = spec.map_err(|errors| anyhow!("{}: {errors}", document.key))?;
        let in_template = |error: catamaran_plan::PlanError| {
            if document.key.kind == Kind::VirtualMachine {
                error.in_template()
            } else {
                error
            }
        };
        let plan =
            catamaran_plan::plan(&spec, &facts, &offline_given(&spec)).map_err(|errors| {
                let lines: Vec<_> = errors
                    .into_iter()
                    .map(|error| format!("{}: {}", document.key, in_template(error)))
                    .collect();
                anyhow!(lines.join("\n"))
            })?;
        if !std::mem::take(&mut first) && !args.xml {
            say("---\n")?;
        }
        if args.xml {
            say(&plan.domain_xml)?;
            continue;
        }
        match args.output.format {
            Some(Format::Json) => say(&(serde_json::to_string_pretty(&plan)? + "\n"))?,
            _ => say(&catamaran_plan::describe(&plan)?)?,
        }
    }
    Ok(())
}
