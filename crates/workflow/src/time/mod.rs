//! Dates, time zones and cron expressions, without a clock: the present is an argument.

pub(crate) mod cron;
pub(crate) mod date;
pub(crate) mod zone;
