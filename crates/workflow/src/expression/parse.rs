//! Texts to conditions. Bounded in length, parts and depth, so that none takes long or fills the stack.

use serde_json::{Number, Value};

use super::{Comparison, ExpressionError, Node, Question, Reference};

/// Bytes of a condition.
const MOST_BYTES: usize = 1024;
/// Parts of a condition.
const MOST_PARTS: usize = 200;
/// Parts within parts.
const DEEPEST: usize = 32;

/// What is read next, and where it begins.
#[derive(Debug, Clone, PartialEq)]
enum Token {
    Or,
    And,
    Not,
    Open,
    Close,
    OpenPlace,
    ClosePlace,
    Dot,
    Compare(Comparison),
    Word(String),
    Text(String),
    Number(Number),
}

#[derive(Debug)]
struct Parser {
    tokens: Vec<(usize, Token)>,
    next: usize,
    parts: usize,
    /// Where the text ends.
    end: usize,
}

pub(super) fn parse(text: &str) -> Result<Node, ExpressionError> {
    if text.len() > MOST_BYTES {
        return Err(wrong(1, format!("the condition has more than {MOST_BYTES} bytes")));
    }
    let tokens = tokens(text)?;
    let mut parser = Parser { tokens, next: 0, parts: 0, end: text.chars().count() + 1 };
    let begins = parser.place();
    let root = parser.or(0)?;
    if parser.next < parser.tokens.len() {
        return Err(parser.expected("`&&`, `||`, a comparison or the end"));
    }
    ensure_truth(&root, begins)?;
    Ok(root)
}

fn wrong(at: usize, problem: impl Into<String>) -> ExpressionError {
    ExpressionError { at, problem: problem.into() }
}

fn tokens(text: &str) -> Result<Vec<(usize, Token)>, ExpressionError> {
    let characters: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(character) = characters.get(at) {
        let begins = at + 1;
        let is_next = |expected: char| characters.get(at + 1) == Some(&expected);
        let (token, length) = match character {
            character if character.is_whitespace() => {
                at += 1;
                continue;
            }
            '|' if is_next('|') => (Token::Or, 2),
            '&' if is_next('&') => (Token::And, 2),
            '=' if is_next('=') => (Token::Compare(Comparison::Equal), 2),
            '!' if is_next('=') => (Token::Compare(Comparison::Unequal), 2),
            '<' if is_next('=') => (Token::Compare(Comparison::AtMost), 2),
            '>' if is_next('=') => (Token::Compare(Comparison::AtLeast), 2),
            '<' => (Token::Compare(Comparison::Less), 1),
            '>' => (Token::Compare(Comparison::More), 1),
            '!' => (Token::Not, 1),
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            '[' => (Token::OpenPlace, 1),
            ']' => (Token::ClosePlace, 1),
            '.' => (Token::Dot, 1),
            '"' | '\'' => {
                quoted(&characters[at..]).ok_or_else(|| wrong(begins, "a text that does not end"))?
            }
            '-' | '0'..='9' => number(&characters[at..], begins)?,
            character if is_word(*character) => {
                let word: String = characters[at..].iter().take_while(|&&next| is_word(next)).collect();
                let length = word.chars().count();
                (Token::Word(word), length)
            }
            strange => return Err(wrong(begins, format!("`{}` is not understood", strange.escape_debug()))),
        };
        tokens.push((begins, token));
        at += length;
    }
    Ok(tokens)
}

/// Names have hyphens, and there is no subtraction.
fn is_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_' || character == '-'
}

/// A text in quotes of either kind; a backslash stands before a quote or a backslash.
fn quoted(characters: &[char]) -> Option<(Token, usize)> {
    let (quote, rest) = characters.split_first()?;
    let mut text = String::new();
    let mut rest = rest.iter().enumerate();
    while let Some((index, character)) = rest.next() {
        match character {
            '\\' => text.push(*rest.next()?.1),
            character if character == quote => return Some((Token::Text(text), index + 2)),
            character => text.push(*character),
        }
    }
    None
}

fn number(characters: &[char], begins: usize) -> Result<(Token, usize), ExpressionError> {
    let belongs = |character: &&char| is_word(**character) || **character == '.' || **character == '+';
    let text: String = characters.iter().take_while(belongs).collect();
    // A task may be called `3d`, but then it is a source in brackets.
    let number = text.parse().map_err(|_| {
        let name = text.split('.').next().unwrap_or_default();
        wrong(
            begins,
            format!("`{text}` is not a number; names that begin with a digit are written [\"{name}\"]"),
        )
    })?;
    let length = text.chars().count();
    Ok((Token::Number(number), length))
}

impl Parser {
    fn or(&mut self, depth: usize) -> Result<Node, ExpressionError> {
        let begins = self.place();
        let first = self.and(depth)?;
        let mut parts = vec![first];
        while self.takes(&Token::Or) {
            parts.push(self.and(depth)?);
        }
        self.joined(parts, begins, Node::Or)
    }

    fn and(&mut self, depth: usize) -> Result<Node, ExpressionError> {
        let begins = self.place();
        let first = self.not(depth)?;
        let mut parts = vec![first];
        while self.takes(&Token::And) {
            parts.push(self.not(depth)?);
        }
        self.joined(parts, begins, Node::And)
    }

    fn joined(
        &self,
        mut parts: Vec<Node>,
        begins: usize,
        join: impl FnOnce(Vec<Node>) -> Node,
    ) -> Result<Node, ExpressionError> {
        if parts.len() <= 1 {
            return parts.pop().ok_or_else(|| self.expected("a condition"));
        }
        parts.iter().try_for_each(|part| ensure_truth(part, begins))?;
        Ok(join(parts))
    }

    fn not(&mut self, depth: usize) -> Result<Node, ExpressionError> {
        let begins = self.place();
        self.count(depth)?;
        if self.takes(&Token::Not) {
            let part = self.not(depth + 1)?;
            ensure_truth(&part, begins)?;
            return Ok(Node::Not(Box::new(part)));
        }
        let left = self.value(depth)?;
        let Some((_, Token::Compare(comparison))) = self.tokens.get(self.next) else { return Ok(left) };
        let comparison = *comparison;
        self.next += 1;
        let right = self.value(depth)?;
        Ok(Node::Compare(Box::new(left), comparison, Box::new(right)))
    }

    fn value(&mut self, depth: usize) -> Result<Node, ExpressionError> {
        self.count(depth)?;
        let at = self.place();
        let Some((_, token)) = self.tokens.get(self.next).cloned() else {
            return Err(self.expected("a source, a text, a number or `(`"));
        };
        self.next += 1;
        match token {
            Token::Open => {
                let inside = self.or(depth + 1)?;
                if self.takes(&Token::Close) { Ok(inside) } else { Err(self.expected("`)`")) }
            }
            Token::Text(text) => Ok(Node::Literal(Value::String(text))),
            Token::Number(number) => Ok(Node::Literal(Value::Number(number))),
            Token::Word(word) => match word.as_str() {
                "true" => Ok(Node::Literal(Value::Bool(true))),
                "false" => Ok(Node::Literal(Value::Bool(false))),
                "null" => Ok(Node::Literal(Value::Null)),
                _ => self.reference(word),
            },
            Token::OpenPlace => {
                let source = self.place_name()?;
                self.reference(source)
            }
            Token::Or
            | Token::And
            | Token::Not
            | Token::Close
            | Token::ClosePlace
            | Token::Dot
            | Token::Compare(_) => Err(wrong(at, "expected a source, a text, a number or `(`")),
        }
    }

    fn reference(&mut self, source: String) -> Result<Node, ExpressionError> {
        const QUESTIONS: &str = "`.success`, `.failure`, `.fired`, `.data` or `.output`";
        if !self.takes(&Token::Dot) {
            return Err(self.expected(&format!("{QUESTIONS} after `{source}`")));
        }
        let at = self.place();
        let question = match self.word()?.as_str() {
            "success" => Question::Success,
            "failure" => Question::Failure,
            "fired" => Question::Fired,
            "data" => Question::Data,
            "output" => Question::Output(self.places()?),
            other => return Err(wrong(at, format!("`.{other}` is not one of {QUESTIONS}"))),
        };
        Ok(Node::Reference(Reference { source, question }))
    }

    /// The way into an output.
    fn places(&mut self) -> Result<Vec<String>, ExpressionError> {
        let mut places = Vec::new();
        loop {
            if self.takes(&Token::Dot) {
                places.push(self.word()?);
            } else if self.takes(&Token::OpenPlace) {
                places.push(self.place_name()?);
            } else {
                return Ok(places);
            }
            self.count(places.len())?;
        }
    }

    fn place_name(&mut self) -> Result<String, ExpressionError> {
        let Some((_, Token::Text(text))) = self.tokens.get(self.next).cloned() else {
            return Err(self.expected("a text"));
        };
        self.next += 1;
        if self.takes(&Token::ClosePlace) { Ok(text) } else { Err(self.expected("`]`")) }
    }

    fn word(&mut self) -> Result<String, ExpressionError> {
        let Some((_, Token::Word(word))) = self.tokens.get(self.next).cloned() else {
            return Err(self.expected("a name"));
        };
        self.next += 1;
        Ok(word)
    }

    fn takes(&mut self, token: &Token) -> bool {
        let is_next = self.tokens.get(self.next).is_some_and(|(_, next)| next == token);
        self.next += usize::from(is_next);
        is_next
    }

    fn place(&self) -> usize {
        self.tokens.get(self.next).map_or(self.end, |(at, _)| *at)
    }

    fn expected(&self, what: &str) -> ExpressionError {
        wrong(self.place(), format!("expected {what}"))
    }

    fn count(&mut self, depth: usize) -> Result<(), ExpressionError> {
        self.parts += 1;
        if self.parts > MOST_PARTS {
            return Err(wrong(self.place(), format!("the condition has more than {MOST_PARTS} parts")));
        }
        if depth > DEEPEST {
            return Err(wrong(self.place(), format!("the condition is nested deeper than {DEEPEST}")));
        }
        Ok(())
    }
}

/// Refuses what can never be true or false, so that a comparison that was forgotten is noticed.
fn ensure_truth(node: &Node, at: usize) -> Result<(), ExpressionError> {
    let is_truth = match node {
        Node::Or(_) | Node::And(_) | Node::Not(_) | Node::Compare(..) => true,
        Node::Literal(value) => value.is_boolean(),
        Node::Reference(reference) => match reference.question {
            Question::Success | Question::Failure | Question::Fired | Question::Output(_) => true,
            Question::Data => false,
        },
    };
    if is_truth { Ok(()) } else { Err(wrong(at, "what is never true or false; compare it with something")) }
}
