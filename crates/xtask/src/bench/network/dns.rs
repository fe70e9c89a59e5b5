//! As much of DNS as it takes to ask for the IPv4 addresses of a name (RFC 1035).

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result, ensure};

const HEADER: usize = 12;
const ADDRESS: [u8; 4] = [0, 1, 0, 1];

/// A question for the addresses of `name`.
pub(super) fn question(name: &str) -> Vec<u8> {
    // Number 1, recursion desired, one question.
    let mut question = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        question.push(u8::try_from(label.len()).expect("names of benchmarks are short"));
        question.extend_from_slice(label.as_bytes());
    }
    question.push(0);
    question.extend_from_slice(&ADDRESS);
    question
}

/// The addresses in an answer, in its order; none if there is no such name.
pub(super) fn addresses(answer: &[u8]) -> Result<Vec<IpAddr>> {
    let count = |place: usize| {
        let bytes = answer.get(place..place + 2).context("the answer is too short")?;
        Ok::<_, anyhow::Error>(u16::from_be_bytes([bytes[0], bytes[1]]))
    };
    let (questions, answers) = (count(4)?, count(6)?);
    let mut rest = answer.get(HEADER..).context("the answer is too short")?;
    for _ in 0..questions {
        rest = after_name(rest)?.get(4..).context("a question is cut off")?;
    }
    let mut addresses = Vec::new();
    for _ in 0..answers {
        rest = after_name(rest)?;
        let (head, data) = rest.split_at_checked(10).context("a record is cut off")?;
        let length = usize::from(u16::from_be_bytes([head[8], head[9]]));
        let (data, after) = data.split_at_checked(length).context("a record is cut off")?;
        if head[..4] == ADDRESS {
            let octets: [u8; 4] = data.try_into().context("an address has four bytes")?;
            addresses.push(Ipv4Addr::from(octets).into());
        }
        rest = after;
    }
    Ok(addresses)
}

fn after_name(mut rest: &[u8]) -> Result<&[u8]> {
    loop {
        let (&length, after) = rest.split_first().context("a name is cut off")?;
        match length {
            0 => return Ok(after),
            // The rest of the name is elsewhere.
            0xc0.. => return after.get(1..).context("a name is cut off"),
            1..=63 => rest = after.get(usize::from(length)..).context("a name is cut off")?,
            64..0xc0 => ensure!(false, "a name is not written as names are"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_of_an_answer_are_read_in_its_order() {
        let mut answer = question("web");
        answer[7] = 3;
        for (kind, data) in [(1, &[10, 0, 0, 9][..]), (5, &[0]), (1, &[10, 0, 0, 8])] {
            let length = u8::try_from(data.len()).expect("few bytes");
            answer.extend_from_slice(&[0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 60, 0, length]);
            answer.extend_from_slice(data);
        }
        let expected: [IpAddr; 2] = [Ipv4Addr::new(10, 0, 0, 9).into(), Ipv4Addr::new(10, 0, 0, 8).into()];
        assert_eq!(addresses(&answer).expect("an answer"), expected);
        assert_eq!(addresses(&question("web")).expect("no such name"), [] as [IpAddr; 0]);
        for length in 0..answer.len() {
            assert!(addresses(&answer[..length]).is_err(), "{length} bytes of an answer");
        }
    }
}
