//! Machines that name an instancetype or preference are judged with both merged into them.

use catamaran_api::VirtualMachine;
use catamaran_instancetypes::{Problem, names_any, resolve};
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
            let found = resolve(client, &(), &request.namespace, &vm).await;
            let machine = match found {
                Ok(found) => found.expanded(&vm).map_err(Problem::Fields),
                Err(problem) => Err(problem),
            };
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
