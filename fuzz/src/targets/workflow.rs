//! What users may ask for as tasks and ignitors, with the conditions, times and dates in them.

use model::Timestamp;
use serde_json::Value;
use workflow::{Cron, Expression, IgnitorSpec, Schemas, TaskSpec, Zone, parse_rfc3339, rfc3339};

use crate::shared;

/// Every schema is one, and everything is as it says.
#[derive(Debug)]
struct Any;

impl Schemas for Any {
    fn ensure_schema(&self, _: &Value) -> Result<(), (String, String)> {
        Ok(())
    }

    fn ensure_valid(&self, _: &Value, _: &Value) -> Result<(), String> {
        Ok(())
    }
}

pub(crate) fn take(data: &[u8]) {
    for (choice, bytes) in shared::parts(data) {
        let text = String::from_utf8_lossy(bytes);
        let now = Timestamp(u64::from(choice >> 2) << 36);
        match choice & 3 {
            0 => {
                let Ok(document) = serde_json::from_slice::<Value>(bytes) else { continue };
                let causes = TaskSpec::parse(&document, &Any).err();
                assert!(causes.is_none_or(|causes| !causes.is_empty()), "every \"no\" says why");
                let causes = IgnitorSpec::parse(&document, None, now).err();
                assert!(causes.is_none_or(|causes| !causes.is_empty()), "every \"no\" says why");
            }
            1 => {
                if let Ok(condition) = text.parse::<Expression>() {
                    assert_eq!(condition.to_string().parse(), Ok(condition.clone()));
                    let known = condition.references().len();
                    condition.holds(&|asked| Value::String(asked.source.clone()));
                    assert!(known <= text.len(), "each is written");
                }
            }
            2 => {
                let (cron, zone) = text.split_once('\n').unwrap_or((&text, "UTC"));
                if let Ok(cron) = cron.parse::<Cron>() {
                    let zone = zone.parse::<Zone>().unwrap_or_default();
                    assert!(cron.next_after(now, &zone).is_none_or(|due| due > now), "never in the past");
                }
            }
            _ => {
                if let Some(at) = parse_rfc3339(&text) {
                    assert!(parse_rfc3339(&rfc3339(at)) <= Some(at), "without its fraction");
                }
            }
        }
    }
}
