//! [`UpgradeFn`]: a function that decides about handshakes for the layer, in front of the
//! application.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::Handshake;
use crate::handshake::Rejection;

/// A function for [`WebSocketLayer::on_upgrade`](crate::WebSocketLayer::on_upgrade). Every
/// function with the right arguments and result implements it; it cannot be implemented by hand.
///
/// | what | how |
/// |---|---|
/// | `async fn check(handshake: &mut Handshake) -> Result<(), Rejection>` | `.on_upgrade(check)` |
/// | the same, inline, without captured state | `.on_upgrade(async \|handshake: &mut Handshake\| { … })` |
/// | a closure with state, whose future does not borrow the handshake | `.on_upgrade(move \|handshake: &mut Handshake\| { …; async move { … } })` |
/// | a closure with state, whose future borrows the handshake | `.on_upgrade(upgrade_fn(move \|handshake\| Box::pin(…)))`, see [`upgrade_fn`] |
///
/// Rust cannot yet ask for a `Send` future of an `AsyncFn`, so an async closure that captures
/// state does not fit: use one of the last two forms.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not fit `WebSocketLayer::on_upgrade`",
    label = "is not a function of `&mut Handshake` with a `Send` future of `Result<(), Rejection>`",
    note = "write the type of a closure's argument: `|handshake: &mut Handshake|`",
    note = "wrap a closure whose future borrows the handshake: \
            `upgrade_fn(move |handshake| Box::pin(async move {{ .. }}))`"
)]
pub trait UpgradeFn<'a>: Fn(&'a mut Handshake) -> Self::Future + Send + Sync + 'static {
    /// What the function returns.
    type Future: Future<Output = Result<(), Rejection>> + Send + 'a;
}

impl<'a, F, Fut> UpgradeFn<'a> for F
where
    F: Fn(&'a mut Handshake) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), Rejection>> + Send + 'a,
{
    type Future = Fut;
}

/// Returns `function` as it is: lets a closure that captures state borrow the handshake in its
/// future, for [`WebSocketLayer::on_upgrade`](crate::WebSocketLayer::on_upgrade).
///
/// Passed to `on_upgrade` directly, the compiler takes such a closure for one of a single
/// lifetime and rejects it.
///
/// ```
/// use std::collections::HashMap;
/// use std::sync::Arc;
///
/// use http::StatusCode;
/// use tower_websocket::{Connection, Handshake, Rejection, WebSocketLayer, upgrade_fn};
///
/// type Users = HashMap<String, String>;
///
/// #[derive(Clone)]
/// struct User(String);
///
/// async fn check(handshake: &mut Handshake, users: &Users) -> Result<(), Rejection> {
///     let token = handshake.request().uri.query().and_then(|query| query.strip_prefix("token="));
///     let user = token.and_then(|token| users.get(token)).ok_or(StatusCode::UNAUTHORIZED)?;
///     handshake.extensions_mut().insert(User(user.clone()));
///     Ok(())
/// }
///
/// let users = Arc::new(Users::new());
/// let layer = WebSocketLayer::from_fn("/chat", |conn: Connection| async move {
///     let user = conn.request().extensions.get::<User>().ok_or("no user")?;
///     conn.send(format!("hello {}", user.0)).await?;
///     Ok(())
/// })
/// .on_upgrade(upgrade_fn(move |handshake| {
///     let users = users.clone();
///     Box::pin(async move { check(handshake, &users).await })
/// }));
/// # drop(layer);
/// ```
pub fn upgrade_fn<F>(function: F) -> F
where
    F: for<'a> Fn(&'a mut Handshake) -> Deciding<'a> + Send + Sync + 'static,
{
    function
}

/// Of any function, in one type.
pub(crate) type UpgradeCheck = Arc<dyn for<'a> Fn(&'a mut Handshake) -> Deciding<'a> + Send + Sync>;

type Deciding<'a> = Pin<Box<dyn Future<Output = Result<(), Rejection>> + Send + 'a>>;

pub(crate) fn upgrade_check<F>(function: F) -> UpgradeCheck
where
    F: for<'a> UpgradeFn<'a>,
{
    Arc::new(move |handshake| Box::pin(function(handshake)))
}
