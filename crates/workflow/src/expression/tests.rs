//! What conditions mean, and which are refused.

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Of task `a`, that succeeded, `b-c`, that failed, and the ignitor `i`.
fn answer(reference: &Reference) -> Value {
    let output = json!({"count": 3, "name": "x", "deep": {"list": [1, 2]}, "good": true});
    match (reference.source.as_str(), &reference.question) {
        ("a", Question::Success) | ("b-c", Question::Failure) | ("i", Question::Fired) => Value::Bool(true),
        ("a", Question::Data) => json!("ten"),
        ("a", Question::Output(places)) => {
            let within = places.iter().try_fold(&output, |value, place| match value {
                Value::Array(entries) => entries.get(place.parse::<usize>().ok()?),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
                    value.get(place)
                }
            });
            within.cloned().unwrap_or_default()
        }
        (_, Question::Data | Question::Output(_)) => Value::Null,
        (_, Question::Success | Question::Failure | Question::Fired) => Value::Bool(false),
    }
}

fn holds(text: &str) -> bool {
    text.parse::<Expression>().unwrap_or_else(|error| panic!("{text}: {error}")).holds(&answer)
}

#[test]
fn conditions_mean_what_they_say() {
    for text in [
        "a.success",
        "a.success && b-c.failure",
        "a.failure || i.fired",
        "!(a.failure)",
        "!!a.success",
        "a.failure && a.failure || a.success",
        "a.success || a.failure && a.failure",
        "true",
        "a.data == 'ten'",
        "a.data == \"ten\" && a.data != 'Ten'",
        "[\"a\"].success",
        "a.output.count >= 3 && a.output.count < 3.5",
        "a.output.deep.list['1'] == 2",
        "a.output['name'] > 'w'",
        "a.output.good",
        "z.data == null",
        "(a.data == 'ten') == true",
        "-1 < 0",
        "'it\\'s' == \"it's\"",
    ] {
        assert!(holds(text), "{text}");
    }
    for text in [
        "a.failure",
        "b-c.success",
        "z.success",
        "a.success && !a.success",
        "a.data == 10",
        "a.output.name < 10",
        "a.output.none > 0",
        "a.output.none <= 0",
        "true < true",
        "true <= true",
        "a.output.count",
        "a.output.deep == a.output.good",
    ] {
        assert!(!holds(text), "{text}");
    }
}

#[test]
fn what_is_not_understood_is_refused_where_it_is() {
    for (text, refusal) in [
        ("", "expected a source, a text, a number or `(` at character 1"),
        ("a", "expected `.success`, `.failure`, `.fired`, `.data` or `.output` after `a` at character 2"),
        (
            "a.sucess",
            "`.sucess` is not one of `.success`, `.failure`, `.fired`, `.data` or `.output` at character 3",
        ),
        ("a.success &", "`&` is not understood at character 11"),
        ("a.success b.success", "expected `&&`, `||`, a comparison or the end at character 11"),
        ("(a.success", "expected `)` at character 11"),
        ("a.data", "what is never true or false; compare it with something at character 1"),
        ("!'x'", "what is never true or false; compare it with something at character 1"),
        ("a.success && 5", "what is never true or false; compare it with something at character 1"),
        ("'open", "a text that does not end at character 1"),
        (
            "3d.success",
            "`3d.success` is not a number; names that begin with a digit are written [\"3d\"] at character 1",
        ),
        ("ä.success", "`ä` is not understood at character 1"),
        ("1 < 2 < 3", "expected `&&`, `||`, a comparison or the end at character 7"),
    ] {
        let refused = text.parse::<Expression>().map_err(|error| error.to_string());
        assert_eq!(refused, Err(refusal.to_owned()), "{text}");
    }
}

#[test]
fn long_wide_and_deep_conditions_are_refused() {
    let refusal = |text: String| text.parse::<Expression>().expect_err("too much").problem;
    assert_eq!(refusal(" ".repeat(1025)), "the condition has more than 1024 bytes");
    assert_eq!(refusal(format!("{}true", "!".repeat(40))), "the condition is nested deeper than 32");
    assert_eq!(refusal("(".repeat(1000)), "the condition is nested deeper than 32");
    assert_eq!(refusal(vec!["true"; 120].join("||")), "the condition has more than 200 parts");
    assert_eq!(refusal(format!("a.output{}", ".b".repeat(100))), "the condition is nested deeper than 32");
}

#[test]
fn what_a_condition_asks_is_known() {
    let expression: Expression = "a.success && (!b.failure || a.output.x == 1)".parse().expect("a condition");
    let asked: Vec<String> = expression.references().into_iter().map(|one| one.source.clone()).collect();
    assert_eq!(asked, ["a", "a", "b"]);
}

/// Pieces that make sense together now and then.
fn piece() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        "a", "b-c", ".success", ".failure", ".data", ".output", ".x", "&&", "||", "!", "(", ")", "[", "]",
        "==", "<", ">=", "'t'", "\"", "'", "\\", "1", "-", "1e999", "0.5", "true", "null", " ", "ä", "\u{0}",
    ])
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in any::<String>(), pieces in proptest::collection::vec(piece(), 0..80)) {
        for text in [text, pieces.concat()] {
            if let Ok(expression) = text.parse::<Expression>() {
                expression.holds(&answer);
                let stored = String::from(expression.clone());
                prop_assert_eq!(stored.parse::<Expression>(), Ok(expression));
            }
        }
    }

    #[test]
    fn and_or_and_not_are_those_of_logic(a in any::<bool>(), b in any::<bool>(), c in any::<bool>()) {
        let facts = |reference: &Reference| Value::Bool(match reference.source.as_str() {
            "a" => a,
            "b" => b,
            _ => c,
        });
        let expression: Expression = "a.success && !b.success || c.success".parse().expect("a condition");
        prop_assert_eq!(expression.holds(&facts), a && !b || c);
        let expression: Expression = "a.success && !(b.success || c.success)".parse().expect("a condition");
        prop_assert_eq!(expression.holds(&facts), a && !(b || c));
    }
}
