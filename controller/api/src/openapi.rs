//! OpenAPI 3 of the group, made from the table of routes; and the empty OpenAPI 2 that the aggregator asks for.

use catamaran_api::crd;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::route::{Action, Method, On, ROWS, Row};
use crate::{GROUP, VERSIONS};

/// `/openapi/v2`.
pub(crate) fn v2() -> Value {
    json!({"swagger": "2.0", "info": info(), "paths": {}})
}

/// `/openapi/v3`: where each version's document is. The hash changes with the document, so that clients may keep it.
pub(crate) fn index() -> Value {
    let paths: Map<String, Value> = (0..VERSIONS.len())
        .map(|at| {
            let path = format!("apis/{GROUP}/{}", VERSIONS[at]);
            let digest = Sha256::digest(document(at).to_string());
            let hash: String = digest.iter().map(|byte| format!("{byte:02X}")).collect();
            let url = format!("/openapi/v3/{path}?hash={hash}");
            (path, json!({"serverRelativeURL": url}))
        })
        .collect();
    json!({"paths": paths})
}

fn info() -> Value {
    json!({"title": "Catamaran", "version": env!("CARGO_PKG_VERSION")})
}

/// `/openapi/v3/apis/GROUP/VERSION`.
pub(crate) fn document(version: usize) -> Value {
    let base = format!("/apis/{GROUP}/{}", VERSIONS[version]);
    let mut paths = Map::new();
    for row in &ROWS {
        let path = match row.on {
            On::Manifest => format!("{base}/namespaces/{{namespace}}/{}", row.on.plural()),
            on => format!(
                "{base}/namespaces/{{namespace}}/{}/{{name}}/{}",
                on.plural(),
                row.path
            ),
        };
        let method = row.method.as_str().to_ascii_lowercase();
        let mut parameters = parameters(&path);
        if row.action == Action::Events {
            parameters.extend(["skip", "limit"].map(
                |name| json!({"name": name, "in": "query", "schema": {"type": "integer", "minimum": 0}}),
            ));
        }
        paths.insert(
            path,
            json!({method: operation(row, version), "parameters": parameters}),
        );
    }
    for (path, id) in [("version", "version"), ("healthz", "checkHealth")] {
        let operation = json!({
            "operationId": format!("{}{id}", VERSIONS[version]),
            "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": {"type": "object"}}}}},
        });
        paths.insert(format!("{base}/{path}"), json!({"get": operation}));
    }
    json!({
        "openapi": "3.0.0", "info": info(), "paths": paths,
        "components": {"schemas": schemas()},
    })
}

fn parameters(path: &str) -> Vec<Value> {
    path.split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| {
            json!({
                "name": name, "in": "path", "required": true,
                "schema": {"type": "string", "uniqueItems": true},
            })
        })
        .collect()
}

fn operation(row: &Row, version: usize) -> Value {
    let words: String = row
        .path
        .split(['/', '-', '{', '}'])
        .filter(|word| !word.is_empty())
        .map(|word| word[..1].to_ascii_uppercase() + &word[1..])
        .collect();
    let object = match row.on {
        On::Machine => "VirtualMachine",
        On::Instance => "VirtualMachineInstance",
        On::Host => "BareMetalHost",
        On::Manifest => "ExpandVmSpec",
    };
    let verb = match row.method {
        Method::Get => "get",
        _ => "update",
    };
    let success = match (row.on, row.method) {
        (On::Machine, Method::Put) => "202",
        _ => "200",
    };
    let mut done = json!({"description": if success == "202" { "Accepted" } else { "OK" }});
    if let Some(schema) = answer(row.action) {
        done["content"] = json!({"application/json": {"schema": reference(schema)}});
    }
    let mut responses = Map::from_iter([(success.to_owned(), done)]);
    for (code, words) in [
        ("400", "Bad Request"),
        ("401", "Unauthorized"),
        ("403", "Forbidden"),
        ("404", "Not Found"),
        ("409", "Conflict"),
        ("500", "Internal Server Error"),
    ] {
        let content = json!({"application/json": {"schema": reference("Status")}});
        responses.insert(
            code.to_owned(),
            json!({"description": words, "content": content}),
        );
    }
    let mut operation = json!({
        "operationId": format!("{}{verb}Namespaced{object}{words}", VERSIONS[version]),
        "tags": [GROUP], "responses": responses,
    });
    if let Some(body) = row.body {
        let schema = json!({"schema": reference(body)});
        operation["requestBody"] =
            json!({"content": {"application/json": schema, "application/yaml": schema}});
    }
    operation
}

/// The schema of an answer that is ours alone, which no client of the peer knows.
fn answer(action: Action) -> Option<&'static str> {
    match action {
        Action::Sensors => Some("HostSensors"),
        Action::Events => Some("HostEvents"),
        _ => None,
    }
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// Schemas of bodies.
fn schemas() -> Value {
    let options = |properties: Value| {
        let mut properties = properties;
        properties["dryRun"] = json!({"type": "array", "items": {"type": "string"}});
        json!({"type": "object", "properties": properties})
    };
    let integer = json!({"type": "integer", "format": "int64"});
    let any = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let text = json!({"type": "string"});
    let list = |properties: Value| json!({"type": "array", "items": {"type": "object", "properties": properties}});
    let bounds = json!({"type": "object", "properties": {"low": {"type": "number"}, "high": {"type": "number"}}});
    let mut schemas = json!({
        "HostSensors": {"type": "object", "properties": {
            "readAt": text, "health": text, "gaps": {"type": "array", "items": text},
            "sensors": list(json!({
                "name": text, "type": text, "reading": {"type": "number"}, "unit": text, "health": text, "caution": bounds, "critical": bounds,
            })),
        }},
        "HostEvents": {"type": "object", "properties": {
            "readAt": text, "log": text, "total": integer, "gaps": {"type": "array", "items": text},
            "entries": list(json!({"id": text, "created": text, "severity": text, "message": text, "about": text})),
        }},
        "StartOptions": options(json!({"paused": {"type": "boolean"}})),
        "StopOptions": options(json!({"gracePeriod": integer})),
        "RestartOptions": options(json!({"gracePeriodSeconds": integer})),
        "AddVolumeOptions": options(json!({"name": {"type": "string"}, "disk": any, "volumeSource": any})),
        "RemoveVolumeOptions": options(json!({"name": {"type": "string"}})),
        "PauseOptions": options(json!({})),
        "UnpauseOptions": options(json!({})),
        "FreezeUnfreezeTimeout": {"type": "object", "properties": {"unfreezeTimeout": {"type": "string"}}},
        "VirtualMachine": crd::schema("VirtualMachine").unwrap_or_else(|| any.clone()),
        "Status": {
            "type": "object",
            "properties": {
                "apiVersion": {"type": "string"}, "kind": {"type": "string"},
                "status": {"type": "string"}, "code": {"type": "integer", "format": "int32"},
                "reason": {"type": "string"}, "message": {"type": "string"},
                "details": {"type": "object"}, "metadata": {"type": "object"},
            },
        },
    });
    // Bodies of what is refused are not described further.
    for name in ROWS.iter().filter_map(|row| row.body) {
        if schemas[name].is_null() {
            schemas[name] = any.clone();
        }
    }
    schemas
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{document, index};
    use crate::route::ROWS;

    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str));
                map.values().for_each(|v| references(v, found));
            }
            Value::Array(items) => items.iter().for_each(|v| references(v, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document(0);
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(!found.is_empty());
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }

    #[test]
    fn every_route_has_an_operation_of_its_own() {
        let document = document(1);
        let paths = document["paths"].as_object().unwrap();
        assert_eq!(paths.len(), ROWS.len() + 2);
        let mut ids: Vec<_> = paths
            .values()
            .flat_map(|path| path.as_object().unwrap().values())
            .filter_map(|operation| operation["operationId"].as_str())
            .collect();
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!((ids.len(), count), (paths.len(), paths.len()));
    }

    #[test]
    fn the_index_names_both_versions() {
        let index = index();
        assert_eq!(index["paths"].as_object().unwrap().len(), 2);
    }
}
