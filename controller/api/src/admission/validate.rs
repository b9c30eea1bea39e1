//! Whether an object may be stored: every mistake at once, with its field's path, from the same function that `play` uses. No I/O.
//!
//! Instances are written by our own accounts only: a user may change labels and annotations, never the spec or the status.

use catamaran_spec::instancetype::{self, Role};
use catamaran_spec::{Context, Fault, FieldError, FieldErrors, Warning, read};
use kube::core::response::StatusCause;
use serde_json::Value;

use super::review::{Request, Verdict};

/// Labels of an instance that decide where it runs and whose it is.
const RESERVED: [&str; 5] = [
    "kubevirt.io/created-by",
    "kubevirt.io/migrationJobUID",
    "kubevirt.io/migrationTargetNodeName",
    "kubevirt.io/nodeName",
    "kubevirt.io/schedulable",
];

/// The answer about a machine or an instance. `changed`: mistakes that only the machine before its change shows.
pub(super) fn judge(request: &Request, changed: Vec<FieldError>, namespace: &str) -> Verdict {
    let (object, old) = (&request.object, &request.old_object);
    if !is_judged(request) {
        return Verdict::allowed();
    }
    if let Some((role, _)) = Role::of_kind(&request.kind.kind) {
        return verdict(instancetype::check(object, role));
    }
    match request.kind.kind.as_str() {
        "VirtualMachine" => {
            let read = read::virtual_machine(object, Context::Cluster);
            verdict(with(changed, read.map(|(_, _, warnings)| warnings)))
        }
        "VirtualMachineInstance" if is_ours(request, namespace) => match request.operation.as_str()
        {
            "CREATE" => instance(object),
            _ => Verdict::allowed(),
        },
        "VirtualMachineInstance" if request.operation == "CREATE" => {
            let taken = changed_labels(object, &Value::Null);
            if taken.is_empty() {
                instance(object)
            } else {
                reserved(&taken, "creation")
            }
        }
        "VirtualMachineInstance" => changed_instance(object, old),
        _ => Verdict::allowed(),
    }
}

/// What was read, unless there are other mistakes.
fn with<T>(mut mistakes: Vec<FieldError>, read: Result<T, FieldErrors>) -> Result<T, FieldErrors> {
    match read {
        Ok(read) if mistakes.is_empty() => Ok(read),
        Ok(_) => Err(FieldErrors(mistakes)),
        Err(FieldErrors(more)) => {
            mistakes.extend(more);
            Err(FieldErrors(mistakes))
        }
    }
}

/// Whether the request may be wrong: whoever deletes only takes finalizers away, and what was stored before stays editable.
pub(super) fn is_judged(request: &Request) -> bool {
    let (object, old) = (&request.object, &request.old_object);
    let kind = request.kind.kind.as_str();
    let unchanged = object["spec"] == old["spec"] && kind != "VirtualMachineInstance";
    let going = !object["metadata"]["deletionTimestamp"].is_null();
    request.operation != "UPDATE" || !(going || unchanged)
}

/// The controller and the node daemons.
fn is_ours(request: &Request, namespace: &str) -> bool {
    request
        .user_info
        .username
        .strip_prefix("system:serviceaccount:")
        .and_then(|account| account.strip_prefix(namespace))
        .is_some_and(|account| matches!(account, ":catamaran-controller" | ":catamaran-node"))
}

fn instance(object: &Value) -> Verdict {
    verdict(
        read::virtual_machine_instance(object, Context::Cluster).map(|(_, _, warnings)| warnings),
    )
}

fn changed_instance(object: &Value, old: &Value) -> Verdict {
    let mut causes = Vec::new();
    if object["spec"] != old["spec"] {
        causes.push(cause(
            "FieldValueNotSupported",
            "spec",
            "update of VMI object is restricted",
        ));
    }
    if object["status"] != old["status"] {
        causes.push(cause(
            "FieldValueForbidden",
            "status",
            "status of VMI object is written by Catamaran only",
        ));
    }
    if !causes.is_empty() {
        let words: Vec<&str> = causes.iter().map(|c| c.message.as_str()).collect();
        return Verdict::invalid(words.join(", "), causes);
    }
    let taken = changed_labels(object, old);
    if taken.is_empty() {
        Verdict::allowed()
    } else {
        reserved(&taken, "modification")
    }
}

fn changed_labels(object: &Value, old: &Value) -> Vec<&'static str> {
    RESERVED
        .into_iter()
        .filter(|label| object["metadata"]["labels"][label] != old["metadata"]["labels"][label])
        .collect()
}

fn reserved(labels: &[&str], what: &str) -> Verdict {
    let words = format!(
        "{what} of the following reserved kubevirt.io/ labels on a VMI object is prohibited"
    );
    let causes = labels
        .iter()
        .map(|label| {
            cause(
                "FieldValueNotSupported",
                "metadata.labels",
                &format!("{words}: {label}"),
            )
        })
        .collect();
    Verdict::invalid(format!("{words}: {}", labels.join(", ")), causes)
}

pub(super) fn verdict(read: Result<Vec<Warning>, FieldErrors>) -> Verdict {
    match read {
        Ok(warnings) => Verdict::Allowed(warnings.iter().map(ToString::to_string).collect()),
        Err(errors) => {
            let words: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
            Verdict::invalid(words.join(", "), errors.0.iter().map(of_error).collect())
        }
    }
}

fn of_error(error: &FieldError) -> StatusCause {
    let reason = match error.fault {
        Fault::Required(_) => "FieldValueRequired",
        Fault::Duplicate(_) => "FieldValueDuplicate",
        Fault::Invalid(..) | Fault::Conflict => "FieldValueInvalid",
        Fault::Unsupported(..) => "FieldValueNotSupported",
        Fault::Forbidden(_) => "FieldValueForbidden",
        Fault::Unknown(_) => "FieldValueUnknown",
    };
    cause(reason, error.path.as_str(), &error.fault.to_string())
}

fn cause(reason: &str, field: &str, message: &str) -> StatusCause {
    StatusCause {
        reason: reason.to_owned(),
        message: message.to_owned(),
        field: field.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::review::{Kind, Request, UserInfo, Verdict};
    use super::judge;

    const CONTROLLER: &str = "system:serviceaccount:catamaran-system:catamaran-controller";

    fn spec() -> Value {
        json!({"domain": {"memory": {"guest": "64Mi"}, "devices": {}}})
    }

    fn vm() -> Value {
        json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
            "metadata": {"name": "a", "namespace": "d"},
            "spec": {"runStrategy": "Always", "template": {"spec": spec()}},
        })
    }

    fn vmi() -> Value {
        json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
            "metadata": {"name": "a", "namespace": "d", "labels": {"app": "x"}},
            "spec": spec(), "status": {"phase": "Running"},
        })
    }

    fn ask(user: &str, old: Value, object: Value) -> Verdict {
        let request = Request {
            kind: Kind {
                kind: object["kind"].as_str().unwrap().to_owned(),
            },
            operation: if old.is_null() { "CREATE" } else { "UPDATE" }.to_owned(),
            user_info: UserInfo {
                username: user.to_owned(),
            },
            object,
            old_object: old,
            ..Request::default()
        };
        let changed = super::super::replug::changed(&request);
        judge(&request, changed, "catamaran-system")
    }

    fn denied(verdict: Verdict) -> Vec<(String, String)> {
        let Verdict::Denied(status) = verdict else {
            panic!("allowed: {verdict:?}")
        };
        assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"));
        let causes = status.details.unwrap().causes;
        causes.into_iter().map(|c| (c.field, c.reason)).collect()
    }

    #[test]
    fn a_right_machine_is_stored() {
        assert_eq!(ask("alice", Value::Null, vm()), Verdict::allowed());
        assert_eq!(ask(CONTROLLER, Value::Null, vmi()), Verdict::allowed());
    }

    #[test]
    fn every_mistake_is_named_with_its_path() {
        let mut wrong = vm();
        wrong["spec"]["runStrategy"] = json!("Sometimes");
        wrong["spec"]["template"]["spec"]["domain"]["devices"]["disks"] = json!([{"name": "root"}]);
        wrong["spec"]["template"]["spec"]["domian"] = json!({});
        let causes = denied(ask("alice", Value::Null, wrong));
        let has = |field: &str, reason: &str| {
            causes
                .iter()
                .any(|(f, r)| f.starts_with(field) && r == reason)
        };
        assert!(
            has("spec.runStrategy", "FieldValueNotSupported"),
            "{causes:?}"
        );
        assert!(
            has("spec.template.spec.domian", "FieldValueUnknown"),
            "{causes:?}"
        );
        assert!(
            has(
                "spec.template.spec.domain.devices.disks[0]",
                "FieldValueInvalid"
            ),
            "{causes:?}"
        );
    }

    #[test]
    fn a_changed_disk_of_a_plugged_volume_is_one_mistake_among_others() {
        let mut old = vm();
        old["status"] = json!({"created": true, "printableStatus": "Running"});
        let template = &mut old["spec"]["template"]["spec"];
        template["domain"]["devices"]["disks"] = json!([{"name": "d", "disk": {"bus": "scsi"}}]);
        template["volumes"] = json!([{"name": "d", "persistentVolumeClaim": {"claimName": "c", "hotpluggable": true}}]);
        let mut new = old.clone();
        let disk = "spec.template.spec.domain.devices.disks[0]";
        new["spec"]["template"]["spec"]["domain"]["devices"]["disks"][0]["serial"] = json!("s");
        let serial = (format!("{disk}.serial"), "FieldValueForbidden".to_owned());
        assert_eq!(
            denied(ask("alice", old.clone(), new.clone())),
            std::slice::from_ref(&serial)
        );
        new["spec"]["template"]["spec"]["domian"] = json!({});
        let causes = denied(ask("alice", old, new));
        assert_eq!((causes.len(), &causes[0]), (2, &serial));
    }

    #[test]
    fn fields_without_effect_are_warned_about() {
        let mut vm = vm();
        vm["spec"]["updateVolumesStrategy"] = json!("Replacement");
        let Verdict::Allowed(warnings) = ask("alice", Value::Null, vm) else {
            panic!("denied")
        };
        assert!(warnings[0].starts_with("spec.updateVolumesStrategy: "));
    }

    #[test]
    fn a_machine_that_was_stored_before_stays_editable() {
        let mut old = vm();
        old["spec"]["template"]["spec"]["domian"] = json!({});
        let mut labelled = old.clone();
        labelled["metadata"]["labels"] = json!({"a": "b"});
        assert_eq!(ask("alice", old.clone(), labelled), Verdict::allowed());
        let mut going = old.clone();
        going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        going["spec"]["runStrategy"] = json!("Halted");
        assert_eq!(ask("alice", old, going), Verdict::allowed());
    }

    #[test]
    fn users_change_neither_spec_nor_status_of_an_instance() {
        let mut changed = vmi();
        changed["spec"]["terminationGracePeriodSeconds"] = json!(5);
        let causes = denied(ask("alice", vmi(), changed.clone()));
        assert_eq!(
            causes[0],
            ("spec".to_owned(), "FieldValueNotSupported".to_owned())
        );
        assert_eq!(ask(CONTROLLER, vmi(), changed), Verdict::allowed());
        let mut lied = vmi();
        lied["status"]["phase"] = json!("Succeeded");
        assert_eq!(denied(ask("alice", vmi(), lied))[0].0, "status");
        let mut labelled = vmi();
        labelled["metadata"]["labels"]["app"] = json!("y");
        assert_eq!(ask("alice", vmi(), labelled), Verdict::allowed());
    }

    #[test]
    fn users_do_not_say_where_an_instance_runs() {
        let mut moved = vmi();
        moved["metadata"]["labels"]["kubevirt.io/nodeName"] = json!("n2");
        assert_eq!(
            denied(ask("alice", vmi(), moved.clone()))[0].0,
            "metadata.labels"
        );
        assert_eq!(
            denied(ask("alice", Value::Null, moved))[0].0,
            "metadata.labels"
        );
    }
}
