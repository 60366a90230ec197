//! [`answer`]: what becomes of a request under a mount.

use std::sync::Arc;

use http::StatusCode;
use http::request::Parts;
use hyper::ext::Protocol;

use super::admission::Admission;
use super::future::Upgrading;
use super::hints;
use super::options::Options;
use super::upgrade::upgrade;
use crate::driver::Application;
use crate::handshake::{self, Decision, Rejection};
use crate::measure;

/// See the module docs.
#[expect(
    clippy::large_enum_variant,
    reason = "moved once, on the way to the inner service; a box would be an allocation"
)]
pub(super) enum Answer {
    /// Not a WebSocket handshake.
    Plain(Parts),
    Refused(Rejection),
    /// The application decides.
    Upgrading(Upgrading),
}

/// Finds out whether the request, which is under the mount, is a handshake, and begins to answer it.
#[inline]
pub(super) fn answer<E: Application>(
    options: &Arc<Options>,
    application: impl FnOnce() -> E,
    parts: Parts,
) -> Answer {
    let protocol = parts.extensions.get::<Protocol>().map(Protocol::as_str);
    match handshake::examine(&parts, protocol, &options.policy) {
        Decision::Plain => {
            hints::no_handshake(&parts);
            Answer::Plain(parts)
        }
        Decision::Refused(rejection) => {
            hints::refused(&parts, rejection.status());
            measure::refused(match rejection.status() {
                StatusCode::FORBIDDEN => "origin",
                StatusCode::MISDIRECTED_REQUEST => "host",
                _ => "invalid",
            });
            Answer::Refused(rejection)
        }
        Decision::Offer(offer) => {
            let mount = options.mount.as_str().len();
            let path = Box::from(parts.uri.path().get(mount..).unwrap_or_default());
            match Admission::new(options, parts) {
                Ok(admission) => Answer::Upgrading(Box::pin(upgrade(
                    application(),
                    options.clone(),
                    offer,
                    path,
                    admission,
                ))),
                Err(rejection) => Answer::Refused(rejection),
            }
        }
    }
}
