//! placeholder
#[derive(Clone, Debug)]
pub(crate) struct Mount(String);
impl Mount {
    pub(crate) fn new(p: &str) -> Self {
        Self(p.trim_end_matches('/').to_owned())
    }
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
    pub(crate) fn matches<'a>(&self, path: &'a str) -> Option<&'a str> {
        path.strip_prefix(&*self.0)
            .filter(|r| r.is_empty() || r.starts_with('/'))
    }
}
