//! The report as one page.
pub(crate) fn page(report: &super::Report) -> String {
    report.settings.scenario.clone()
}
