//! What is asked below `/console/api/`: from method, path and query. Pure.

use axum::http::Method;

use crate::backend::{Failure, Name, Place};
use crate::kind::{Deed, KINDS, Kind};
use crate::words::{HostQuestion, NodeVerb, Question, Verb};

/// A request, understood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// What this console is; nobody has to be logged in.
    Mode,
    Login,
    Logout,
    Session,
    /// Other sites that pages link to.
    Links,
    Sessions,
    EndSession(String),
    Rights(Option<Name>),
    List(Place),
    Watch(Place, u64),
    Get(Place),
    Create(Place, bool),
    Replace(Place, bool),
    Delete(Place),
    Act(Name, Name, Verb),
    Question(Name, Name, Question),
    Hand(Name, Name, String),
    Ticket(Name, Name),
    Stream,
    Node(Name, NodeVerb),
    Host(Name, Name),
    HostQuestion(Name, Name, HostQuestion),
}

#[derive(Debug, Default)]
struct Query {
    namespace: String,
    dry_run: String,
    skip: u32,
}

impl Asked {
    /// Understands a request.
    pub(crate) fn parse(method: &Method, path: &str, query: Option<&str>) -> Result<Self, Failure> {
        let query = Query::parse(query)?;
        let namespace = query.namespace()?;
        let dry_run = query.dry_run == "true";
        let words: Vec<_> = path.split('/').collect();
        let (asked, needs) = match words[..] {
            ["mode"] => (Self::Mode, Method::GET),
            ["login"] => (Self::Login, Method::POST),
            ["logout"] => (Self::Logout, Method::POST),
            ["session"] => (Self::Session, Method::GET),
            ["links"] => (Self::Links, Method::GET),
            ["sessions"] => (Self::Sessions, Method::GET),
            ["sessions", id] => (Self::EndSession(id.to_owned()), Method::DELETE),
            ["rights"] => (Self::Rights(namespace), Method::GET),
            ["stream"] => (Self::Stream, Method::GET),
            ["list", plural] => {
                let place = place(plural, namespace, None, Deed::Read)?;
                (Self::List(place), Method::GET)
            }
            ["watch", plural, version] => {
                let version = version
                    .parse()
                    .map_err(|_| Failure::new(400, "resource version: must be a number"))?;
                let place = place(plural, namespace, None, Deed::Read)?;
                (Self::Watch(place, version), Method::GET)
            }
            ["objects", plural] => {
                let place = place(plural, namespace, None, Deed::Create)?;
                (Self::Create(place, dry_run), Method::POST)
            }
            ["object", plural, object] => {
                let object = Some(name(object)?);
                let place = |deed| place(plural, namespace, object, deed);
                return match *method {
                    Method::GET => Ok(Self::Get(place(Deed::Read)?)),
                    Method::PUT => Ok(Self::Replace(place(Deed::Replace)?, dry_run)),
                    Method::DELETE => Ok(Self::Delete(place(Deed::Delete)?)),
                    _ => Err(Failure::new(
                        405,
                        "only GET, PUT and DELETE are answered here",
                    )),
                };
            }
            ["machines", namespace, machine, word] => {
                let (namespace, machine) = (name(namespace)?, name(machine)?);
                match word {
                    "ticket" => (Self::Ticket(namespace, machine), Method::POST),
                    word => match (Verb::parse(word), Question::parse(word)) {
                        (Some(verb), _) => (Self::Act(namespace, machine, verb), Method::POST),
                        (_, Some(asked)) => {
                            (Self::Question(namespace, machine, asked), Method::GET)
                        }
                        _ => return Err(unknown_word()),
                    },
                }
            }
            ["machines", namespace, machine, "viewers", viewer] => {
                let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
                if viewer.is_empty() || !viewer.chars().all(plain) {
                    return Err(Failure::new(404, "viewer: must be the id of a viewer"));
                }
                let hand = Self::Hand(name(namespace)?, name(machine)?, viewer.to_owned());
                (hand, Method::PUT)
            }
            ["nodes", node, verb] => {
                let verb = NodeVerb::parse(verb).ok_or_else(|| {
                    Failure::new(404, "verb: must be one of cordon, uncordon, drain")
                })?;
                (Self::Node(name(node)?, verb), Method::POST)
            }
            ["hosts", namespace, host] => {
                (Self::Host(name(namespace)?, name(host)?), Method::PATCH)
            }
            ["hosts", namespace, host, word] => {
                let question = match word {
                    "sensors" => HostQuestion::Sensors,
                    "events" => HostQuestion::Events(query.skip),
                    _ => {
                        return Err(Failure::new(
                            404,
                            "question: must be one of sensors, events",
                        ));
                    }
                };
                let asked = Self::HostQuestion(name(namespace)?, name(host)?, question);
                (asked, Method::GET)
            }
            _ => return Err(Failure::new(404, "no such request")),
        };
        if *method == needs {
            Ok(asked)
        } else {
            Err(Failure::new(405, format!("only {needs} is answered here")))
        }
    }
}

impl Query {
    fn parse(query: Option<&str>) -> Result<Self, Failure> {
        let mut read = Self::default();
        for pair in query.unwrap_or_default().split('&') {
            match pair.split_once('=') {
                Some(("namespace", value)) => value.clone_into(&mut read.namespace),
                Some(("dryRun", value)) if matches!(value, "" | "true" | "false") => {
                    value.clone_into(&mut read.dry_run);
                }
                Some(("skip", value)) => {
                    let number = value.parse();
                    read.skip = number.map_err(|_| Failure::new(400, "skip: must be a number"))?;
                }
                None if pair.is_empty() => {}
                _ => {
                    return Err(Failure::new(
                        400,
                        "query: must be namespace=NAME, dryRun=true, skip=NUMBER or nothing",
                    ));
                }
            }
        }
        Ok(read)
    }

    fn namespace(&self) -> Result<Option<Name>, Failure> {
        match self.namespace.as_str() {
            "" => Ok(None),
            text => name(text).map(Some),
        }
    }
}

fn place(
    plural: &str,
    namespace: Option<Name>,
    name: Option<Name>,
    deed: Deed,
) -> Result<Place, Failure> {
    let kind = Kind::parse(plural).filter(|kind| kind.allows(deed));
    let kind = kind.ok_or_else(|| {
        let words: Vec<_> = KINDS
            .iter()
            .filter(|kind| kind.allows(deed))
            .map(|kind| kind.plural)
            .collect();
        Failure::new(404, format!("kind: must be one of {}", words.join(", ")))
    })?;
    let one = name.is_some() || deed == Deed::Create;
    if one && kind.namespaced && namespace.is_none() {
        let plural = kind.plural;
        return Err(Failure::new(
            400,
            format!("namespace: is needed for {plural}"),
        ));
    }
    Ok(Place {
        kind,
        namespace,
        name,
    })
}

fn unknown_word() -> Failure {
    let verbs = Verb::ALL.map(Verb::word).join(", ");
    let questions = Question::ALL.map(Question::word).join(", ");
    Failure::new(
        404,
        format!("verb: must be one of {verbs}, {questions}, ticket"),
    )
}

fn name(text: &str) -> Result<Name, Failure> {
    Name::parse(text).ok_or_else(|| {
        Failure::new(
            400,
            "name: must have lower case letters, digits, '-' and '.' only",
        )
    })
}

#[cfg(test)]
mod tests {
    use axum::http::Method;

    use super::Asked;
    use crate::backend::Name;
    use crate::words::{Question, Verb};

    fn status(method: &Method, path: &str, query: &str) -> u16 {
        match Asked::parse(method, path, Some(query)) {
            Ok(_) => 200,
            Err(failure) => failure.status,
        }
    }

    #[test]
    fn each_kind_can_be_asked_for_what_it_allows() {
        let (get, post) = (Method::GET, Method::POST);
        for (method, path, query, expected) in [
            (&get, "list/pods", "namespace=a", 200),
            (&get, "list/nodes", "", 200),
            (&get, "list/secrets", "namespace=a", 404),
            (&get, "object/secrets/a", "namespace=a", 404),
            (&post, "objects/secrets", "namespace=a", 200),
            (&post, "objects/pods", "namespace=a", 404),
            (&post, "objects/virtualmachines", "", 400),
            (
                &post,
                "objects/virtualmachines",
                "namespace=a&dryRun=true",
                200,
            ),
            (
                &post,
                "objects/virtualmachines",
                "namespace=a&dryRun=maybe",
                400,
            ),
            (
                &Method::PUT,
                "object/virtualmachineinstances/a",
                "namespace=a",
                404,
            ),
            (
                &Method::DELETE,
                "object/virtualmachineinstances/a",
                "namespace=a",
                200,
            ),
            (
                &Method::PATCH,
                "object/virtualmachines/a",
                "namespace=a",
                405,
            ),
            (&get, "list/virtualmachines", "namespace=a/b", 400),
            (&get, "list/virtualmachines", "limit=5", 400),
            (&get, "watch/virtualmachines/x", "", 400),
            (&get, "hosts/metal/rack-1/sensors", "", 200),
            (&get, "hosts/metal/rack-1/events", "skip=50", 200),
            (&get, "hosts/metal/rack-1/events", "skip=all", 400),
            (&get, "hosts/metal/rack-1/power", "", 404),
            (&post, "hosts/metal/rack-1/sensors", "", 405),
            (&post, "objects/dataimages", "namespace=metal", 200),
            (&Method::PUT, "object/dataimages/a", "namespace=metal", 404),
        ] {
            assert_eq!(
                status(method, path, query),
                expected,
                "{method} {path}?{query}"
            );
        }
    }

    #[test]
    fn words_behind_a_machine_are_verbs_questions_and_tickets() {
        let name = |text| Name::parse(text).unwrap();
        let parse =
            |method, word: &str| Asked::parse(&method, &format!("machines/prod/web/{word}"), None);
        assert_eq!(
            parse(Method::POST, "softreboot"),
            Ok(Asked::Act(name("prod"), name("web"), Verb::SoftReboot))
        );
        assert_eq!(
            parse(Method::GET, "dmesg"),
            Ok(Asked::Question(name("prod"), name("web"), Question::Dmesg))
        );
        assert_eq!(parse(Method::GET, "start").unwrap_err().status, 405);
        let unknown = parse(Method::POST, "migrate").unwrap_err();
        assert_eq!(unknown.status, 404);
        assert!(unknown.message.contains("softreboot"), "{unknown}");
    }
}
