//! Requests about quotas.

use std::net::IpAddr;

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

use super::request::{OwnQuotas, QuotaList, QuotaQuery, QuotaView, QuotasReset, ResetQuotas, UsedQuota};
use super::server::{Shared, problem};
use crate::config::file::MOST_DESTINATIONS;
use crate::intercept::identity::Identity;
use crate::policy::quota::{Client, Standing};

/// Clients that one answer lists at most.
const LISTED: usize = 10_000;

/// What to write into a request.
const HINT: &str =
    "write for example `{\"client\": \"192.0.2.7\", \"limits\": {\"messages\": 500}}` as application/json";

/// The clients seen last, or one.
pub(super) async fn list(
    State(shared): State<Shared>,
    query: Result<Query<QuotaQuery>, QueryRejection>,
) -> Response {
    let query = match query {
        Ok(Query(query)) => query,
        Err(error) => {
            let hint = "write for example `/v1/quotas?client=192.0.2.7`";
            return problem(StatusCode::BAD_REQUEST, error.to_string(), hint);
        }
    };
    let held = shared.control.quotas.len();
    let clients = match query.client {
        Some(address) => match find(&shared, address, query.identity) {
            Ok(client) => vec![one(&shared, &client)],
            Err(answer) => return answer,
        },
        None => {
            let standings = shared.control.quotas.standings(LISTED).into_iter();
            standings.map(|standing| view(Standing { destinations: Vec::new(), ..standing })).collect()
        }
    };
    Json(QuotaList { held, clients }).into_response()
}

/// Gives a client limits of its own.
pub(super) async fn set(
    State(shared): State<Shared>,
    body: Result<Json<OwnQuotas>, JsonRejection>,
) -> Response {
    let own = match body {
        Ok(Json(own)) => own,
        Err(error) => return problem(StatusCode::BAD_REQUEST, error.body_text(), HINT),
    };
    let quotas = &shared.control.quotas;
    if !quotas.is_on() {
        let error = "the configuration limits nothing, so that nothing is counted".to_owned();
        return problem(StatusCode::UNPROCESSABLE_ENTITY, error, "set `quotas.limits` first");
    }
    let client = match find(&shared, own.client, own.identity) {
        Ok(client) => client,
        Err(answer) => return answer,
    };
    let limits = own.limits.map(|changes| {
        let mut limits = quotas.limits(&client);
        for (quota, limit) in changes {
            quota.set_limit(&mut limits, limit);
        }
        limits
    });
    if limits.as_ref().is_some_and(|limits| limits.destinations > MOST_DESTINATIONS) {
        let error = format!("`destinations` is at most {MOST_DESTINATIONS}");
        return problem(StatusCode::UNPROCESSABLE_ENTITY, error, "write less, or 0 for no limit");
    }
    if let Err(full) = quotas.set_limits(client.clone(), limits) {
        let hint = "`gateway quota set CLIENT --configured` takes them from a client";
        return problem(StatusCode::UNPROCESSABLE_ENTITY, full.to_string(), hint);
    }
    shared.control.quotas.flush().await;
    Json(QuotaList { held: quotas.len(), clients: vec![one(&shared, &client)] }).into_response()
}

/// Has a client begin anew, or all.
pub(super) async fn reset(
    State(shared): State<Shared>,
    body: Result<Json<ResetQuotas>, JsonRejection>,
) -> Response {
    let of = match body {
        Ok(Json(of)) => of,
        Err(error) => return problem(StatusCode::BAD_REQUEST, error.body_text(), HINT),
    };
    let client = match of.client {
        Some(address) => match find(&shared, address, of.identity) {
            Ok(client) => Some(client),
            Err(answer) => return answer,
        },
        None => None,
    };
    let reset = shared.control.quotas.reset(client.as_ref());
    shared.control.quotas.flush().await;
    Json(QuotasReset { reset }).into_response()
}

/// The client that an operator means.
#[expect(clippy::result_large_err, reason = "the error is the answer")]
fn find(shared: &Shared, address: IpAddr, identity: Option<String>) -> Result<Client, Response> {
    let identity = identity.map(Identity::try_from).transpose().map_err(|error| {
        problem(StatusCode::BAD_REQUEST, error.to_string(), "leave it out for the address itself")
    })?;
    Ok(shared.control.quotas.client(address, identity))
}

fn one(shared: &Shared, client: &Client) -> QuotaView {
    view(shared.control.quotas.standing(client))
}

fn view(standing: Standing) -> QuotaView {
    let Standing { client, used, destinations, refused, own } = standing;
    let quotas = used.into_iter().map(|(quota, used, limit)| UsedQuota { quota, used, limit });
    QuotaView { client, quotas: quotas.collect(), destinations, refused, own }
}
