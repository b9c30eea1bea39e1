//! Machines that name an instancetype or preference are judged with both merged into them.

use catamaran_api::VirtualMachine;
use catamaran_instancetypes::{Problem, expanded, names_any};
use kube::Client;
use serde_json::Value;

use super::review::{Request, Verdict};
use super::validate;
use crate::answer::chain;

/// The request with what its machine names merged into the spec. Other requests are left as they are.
pub(super) async fn merged(client: &Client, mut request: Request) -> Result<Request, Verdict> {
    if request.kind.kind != "VirtualMachine" || !validate::is_judged(&request) {
        return Ok(request);
    }
    match serde_json::from_value::<VirtualMachine>(request.object.clone()) {
        Ok(vm) if names_any(&vm) => {
            let machine = expanded(client, &request.namespace, &vm).await;
            match machine {
                Ok(machine) => {
                    request.object["spec"] = serde_json::to_value(machine.spec).unwrap_or_default();
                    Ok(request)
                }
                Err(Problem::Fields(errors)) => Err(validate::verdict(Err(errors))),
                Err(problem) => Err(Verdict::failed(chain(&problem))),
            }
        }
        Ok(_) => Ok(request),
        // What can't be read is told with its paths; what it names says nothing about that.
        Err(_) => {
            if let Value::Object(spec) = &mut request.object["spec"] {
                spec.remove("instancetype");
                spec.remove("preference");
            }
            Ok(request)
        }
    }
}
