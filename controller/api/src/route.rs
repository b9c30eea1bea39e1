//! The routes: one table, and the pure function from method and path to what is meant.
//!
//! Discovery, OpenAPI, access reviews and the golden table of rights all read this table.

#[cfg(test)]
mod rights;
mod table;

use crate::access::Question;
use crate::{GROUP, VERSIONS};

pub(crate) use table::{Action, On, ROWS, Row};

/// HTTP methods that are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Asks.
    Get,
    /// Does.
    Put,
    /// Webhooks.
    Post,
}

impl Method {
    /// From HTTP's word; `None` for those that nothing here answers.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "GET" => Some(Self::Get),
            "PUT" => Some(Self::Put),
            "POST" => Some(Self::Post),
            _ => None,
        }
    }

    /// HTTP's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Put => "PUT",
            Self::Post => "POST",
        }
    }

    /// The verb of an access review.
    #[must_use]
    pub fn verb(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "update",
            Self::Post => "create",
        }
    }
}

/// What a request means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// Answered to anybody: discovery, OpenAPI, version, health.
    Open(Open),
    /// A webhook of the API server.
    Admission(Webhook),
    /// About one object, or a manifest in a namespace.
    Object(Target),
}

/// Answered to anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// `/healthz`, `/livez`: this process.
    Alive,
    /// `/readyz`: this process can serve.
    Ready,
    /// `/apis`: the groups, aggregated where the client wants it.
    Groups,
    /// `/apis/GROUP`.
    Group,
    /// `/apis/GROUP/VERSION`: index in [`VERSIONS`].
    Resources(usize),
    /// `…/version`.
    Version,
    /// `…/healthz`: the way to the API server.
    Health,
    /// `…/guestfs` and the profiler: answered with why not.
    Refused(&'static str),
    /// `/openapi/v2`.
    SchemaV2,
    /// `/openapi/v3`.
    SchemaIndex,
    /// `/openapi/v3/apis/GROUP/VERSION`: index in [`VERSIONS`].
    Schema(usize),
}

/// A webhook of the API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Webhook {
    /// Is the object right?
    Validate,
    /// What is to be added to it?
    Mutate,
    /// May the pod be evicted?
    Evict,
}

/// An object and what is to be done with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Index of the version in [`VERSIONS`].
    pub(crate) version: usize,
    /// The row of the table.
    pub(crate) row: &'static Row,
    /// Namespace.
    pub(crate) namespace: String,
    /// Name; empty where a manifest is sent.
    pub(crate) name: String,
    /// Port and protocol of a port-forward.
    pub(crate) arguments: Vec<String>,
}

/// No route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Miss {
    /// There is no such path.
    Path,
    /// The path is there; it answers this method only.
    Method(&'static str),
}

impl Route {
    /// What an access review asks before the route is taken; `None` where anybody may.
    #[must_use]
    pub fn question(&self) -> Option<Question> {
        let Self::Object(target) = self else {
            return None;
        };
        let row = target.row;
        Some(Question {
            verb: row.method.verb(),
            version: VERSIONS[target.version],
            namespace: target.namespace.clone(),
            resource: row.on.plural(),
            subresource: row.subresource(),
            name: target.name.clone(),
        })
    }
}

/// What a request means.
///
/// # Errors
/// When there is no such path, or the path does not answer that method.
pub fn route(method: Method, path: &str) -> Result<Route, Miss> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let get = |open: Open| match method {
        Method::Get => Ok(Route::Open(open)),
        _ => Err(Miss::Method("GET")),
    };
    let version_of = |word: &str| VERSIONS.iter().position(|v| *v == word).ok_or(Miss::Path);
    match parts.as_slice() {
        [""] | ["apis"] => get(Open::Groups),
        ["healthz" | "livez"] => get(Open::Alive),
        ["readyz"] => get(Open::Ready),
        ["openapi", "v2"] => get(Open::SchemaV2),
        ["openapi", "v3"] => get(Open::SchemaIndex),
        ["openapi", "v3", "apis", group, version] if *group == GROUP => {
            get(Open::Schema(version_of(version)?))
        }
        ["admission", hook] => {
            let hook = match *hook {
                "validate" => Webhook::Validate,
                "mutate" => Webhook::Mutate,
                "evict" => Webhook::Evict,
                _ => return Err(Miss::Path),
            };
            match method {
                Method::Post => Ok(Route::Admission(hook)),
                _ => Err(Miss::Method("POST")),
            }
        }
        ["apis", group] if *group == GROUP => get(Open::Group),
        ["apis", group, version, rest @ ..] if *group == GROUP => {
            let version = version_of(version)?;
            match rest {
                [] => get(Open::Resources(version)),
                ["version"] => get(Open::Version),
                ["healthz"] => get(Open::Health),
                ["guestfs"] => get(Open::Refused(table::GUESTFS)),
                ["start-cluster-profiler" | "stop-cluster-profiler" | "dump-cluster-profiler"] => {
                    get(Open::Refused(table::PROFILER))
                }
                ["namespaces", namespace, rest @ ..] => target(method, version, namespace, rest),
                _ => Err(Miss::Path),
            }
        }
        _ => Err(Miss::Path),
    }
}

fn target(method: Method, version: usize, namespace: &str, rest: &[&str]) -> Result<Route, Miss> {
    let mut wrong_method = None;
    for row in &ROWS {
        let Some((name, arguments)) = row.matches(rest) else {
            continue;
        };
        if row.method != method {
            wrong_method = Some(row.method.as_str());
            continue;
        }
        return Ok(Route::Object(Target {
            version,
            row,
            namespace: namespace.to_owned(),
            name,
            arguments,
        }));
    }
    Err(wrong_method.map_or(Miss::Path, Miss::Method))
}

#[cfg(test)]
mod tests {
    use super::{Method, Miss, Open, Route, Webhook, route};

    #[test]
    fn discovery_and_health_need_no_right() {
        for (path, open) in [
            ("/apis", Open::Groups),
            (
                "/apis/subresources.kubevirt.io/v1alpha3/",
                Open::Resources(1),
            ),
            ("/apis/subresources.kubevirt.io/v1/version", Open::Version),
            (
                "/openapi/v3/apis/subresources.kubevirt.io/v1",
                Open::Schema(0),
            ),
        ] {
            let found = route(Method::Get, path).unwrap();
            assert_eq!(found, Route::Open(open));
            assert_eq!(found.question(), None);
        }
    }

    #[test]
    fn a_path_answers_its_own_method_only() {
        let path = "/apis/subresources.kubevirt.io/v1/namespaces/d/virtualmachines/a/start";
        assert_eq!(route(Method::Get, path), Err(Miss::Method("PUT")));
        assert!(route(Method::Put, path).is_ok());
        assert_eq!(
            route(Method::Put, "/admission/evict"),
            Err(Miss::Method("POST"))
        );
        assert_eq!(
            route(Method::Post, "/admission/evict"),
            Ok(Route::Admission(Webhook::Evict))
        );
    }

    #[test]
    fn unknown_paths_are_missed() {
        for path in [
            "/apis/subresources.kubevirt.io/v2",
            "/apis/kubevirt.io/v1",
            "/apis/subresources.kubevirt.io/v1/namespaces/d/virtualmachines/a/fly",
            "/apis/subresources.kubevirt.io/v1/namespaces/d/virtualmachines//start",
            "/apis/subresources.kubevirt.io/v1/namespaces/d/virtualmachineinstances/a/portforward",
        ] {
            assert_eq!(route(Method::Get, path), Err(Miss::Path), "{path}");
        }
    }

    #[test]
    fn the_port_is_no_part_of_the_right() {
        let path = "/apis/subresources.kubevirt.io/v1/namespaces/d/virtualmachineinstances/a/portforward/22/tcp";
        let found = route(Method::Get, path).unwrap();
        let question = found.question().unwrap();
        assert_eq!(
            (question.verb, question.resource),
            ("get", "virtualmachineinstances")
        );
        assert_eq!(question.subresource, "portforward");
        let Route::Object(target) = found else {
            panic!("no object")
        };
        assert_eq!(target.arguments, ["22", "tcp"]);
    }
}
