//! What a server's BMC shows right now: its sensors and its event log.
//!
//! Any replica answers; how it talks to the BMC is the business of `catamaran_baremetal::Readings`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse as _, Response};
use catamaran_api::metal3::BareMetalHost;
use catamaran_baremetal::{Part, Readings, Unread};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::answer::{Refusal, chain};
use crate::route::Action;

/// Entries of an event log where no number is asked for, and most that may be.
const ENTRIES: (usize, usize) = (50, 200);
/// How often connections that nobody uses are looked for.
const TIDY: Duration = Duration::from_secs(15);

/// Answers `sensors` and `events`.
pub(crate) async fn question(
    client: &Client,
    readings: &Arc<Readings>,
    tasks: &TaskTracker,
    (namespace, name): (&str, &str),
    action: Action,
    query: Option<&str>,
) -> Result<Response, Refusal> {
    let part = part(query)?;
    let host = Api::<BareMetalHost>::namespaced(client.clone(), namespace)
        .get(name)
        .await?;
    let credentials = host.spec.bmc.as_ref().map(|bmc| &bmc.credentials_name);
    let secret = match credentials.filter(|name| !name.is_empty()) {
        Some(secret) => {
            let secrets = Api::<Secret>::namespaced(client.clone(), namespace);
            secrets.get_opt(secret).await?
        }
        None => None,
    };
    let readings = Arc::clone(readings);
    // Who goes away does not break off a log-in, whose session nobody would end.
    let reading = tasks.spawn(async move {
        let secret = secret.as_ref();
        Ok(match action {
            Action::Sensors => Json(readings.sensors(&host, secret).await?).into_response(),
            _ => Json(readings.events(&host, secret, part).await?).into_response(),
        })
    });
    let read = reading.await;
    let read = read.map_err(|error| Refusal::internal(chain(&error)))?;
    read.map_err(|unread: Unread| refusal(name, &unread))
}

/// `skip` and `limit` of a query.
fn part(query: Option<&str>) -> Result<Part, Refusal> {
    let mut part = (0, ENTRIES.0);
    for pair in query.unwrap_or_default().split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let number = || value.parse::<usize>();
        match (key, number()) {
            ("skip", Ok(skip)) => part.0 = skip,
            ("limit", Ok(limit)) if (1..=ENTRIES.1).contains(&limit) => part.1 = limit,
            ("skip" | "limit", _) => {
                return Err(Refusal::bad_request(format!(
                    "{key} {value:?}: must be a number, limit one from 1 to {}",
                    ENTRIES.1
                )));
            }
            // Clients of Kubernetes add words of their own, such as `timeout`.
            _ => {}
        }
    }
    Ok(part)
}

fn refusal(name: &str, unread: &Unread) -> Refusal {
    let words = format!("baremetalhost {name:?}: {}", chain(unread));
    match unread {
        Unread::TooMany => Refusal::new(429, "TooManyRequests", words),
        unread if unread.passes() => Refusal::new(503, "ServiceUnavailable", words),
        Unread::Bmc(_) => Refusal::internal(words),
        _ => Refusal::new(409, "Conflict", words),
    }
}

/// Closes what is idle, until the end: then the owner of the connections closes all.
pub(crate) async fn tidy(readings: &Readings, shutdown: &CancellationToken) {
    while shutdown
        .run_until_cancelled(tokio::time::sleep(TIDY))
        .await
        .is_some()
    {
        readings.tidy().await;
    }
}

#[cfg(test)]
mod tests {
    use catamaran_baremetal::Unread;

    use super::{part, refusal};

    #[test]
    fn what_may_go_well_later_is_told_apart_from_what_may_not() {
        let code = |unread| refusal("a", &unread).0.code;
        assert_eq!(code(Unread::TooMany), 429);
        assert_eq!([code(Unread::Busy), code(Unread::Closed)], [503; 2]);
        assert_eq!(code(Unread::NoLogin("refused".to_owned())), 409);
    }

    #[test]
    fn parts_of_a_log_are_bounded() {
        assert_eq!(part(None), Ok((0, 50)));
        assert_eq!(part(Some("")), Ok((0, 50)));
        assert_eq!(part(Some("limit=200&skip=50&timeout=10s")), Ok((50, 200)));
        for wrong in ["limit=0", "limit=201", "skip=-1", "skip=", "limit=all"] {
            assert_eq!(part(Some(wrong)).unwrap_err().0.code, 400, "{wrong}");
        }
    }
}
