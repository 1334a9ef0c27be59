//! placeholder
use super::report::Report;
pub fn draw(_: &Report) -> Result<String, std::fmt::Error> {
    Ok(String::new())
}
