//! `annulus set`: another value for a variable.

use crate::exit::{Code, Failure, Outcome};
use crate::get::{failed, open};
use crate::output::complain;
use crate::{standard, units};
use clap::Args;
use std::io::{self, Read};

/// Give a variable another value
///
/// The value is the argument, or else standard input to its end, and has exactly as many bytes as the variable.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct SetArgs {
    /// The variable: a name in /dev/shm, or a path if it contains a slash
    name: String,

    /// The value
    #[arg(allow_hyphen_values = true)]
    value: Option<String>,

    /// The value is given in hexadecimal
    #[arg(long)]
    hex: bool,

    /// Fill up a value that is too short with zero bytes
    #[arg(long)]
    pad: bool,

    /// Say which version it is
    #[arg(short, long)]
    verbose: bool,

    /// Accept a variable that belongs to this user id
    #[arg(long, value_name = "UID")]
    owner: Option<u32>,
}

const AFTER_HELP: &str = "\
A variable has one writer at a time: while a program is that, this ends with exit code 6.

Examples:
  annulus set price --hex 0000000000405940
  annulus set state --pad running
  head -c 4096 picture | annulus set screen";

pub fn run(args: &SetArgs) -> Outcome {
    let variable = open(&args.name, args.owner)?;
    let size = variable.value_size();
    let mut value = match &args.value {
        Some(value) => value.clone().into_bytes(),
        None => read(args, size)?,
    };
    if args.hex {
        value = parse_hex(&value, size).map_err(|why| {
            let text = format!("{why}; write two hexadecimal digits for each byte, as 00ff");
            Failure::new(Code::Usage, text)
        })?;
    }
    if args.pad && value.len() < size {
        value.resize(size, 0);
    }
    if value.len() != size {
        let count = match args.value.is_none() && value.len() > size {
            true => format!("{} or more bytes", value.len()),
            false => units::exact_bytes(value.len()),
        };
        let advice = match value.len() < size {
            true => "give as many, or fill up with --pad",
            false => "give as many",
        };
        let text = format!(
            "{}: the value has {count}, and the variable exactly {size}; {advice}",
            args.name
        );
        return Err(Failure::new(Code::Usage, text));
    }
    let writer = variable.writer();
    let mut writer = writer.map_err(|error| Failure::setup(&args.name, &error))?;
    let version = writer.set(&value);
    let version = version.map_err(|error| failed(&args.name, error, variable.is_persistent()))?;
    if args.verbose {
        complain(&format!("{} has version {version}", args.name));
    }
    Ok(())
}

/// Standard input, but not much more of it than is of use.
fn read(args: &SetArgs, size: usize) -> Outcome<Vec<u8>> {
    let most = if args.hex { 4 * size + 64 } else { size + 1 };
    let mut value = Vec::new();
    standard::check_input()?;
    let input = io::stdin().lock();
    input
        .take(most as u64)
        .read_to_end(&mut value)
        .map_err(|error| Failure::io("standard input", &error))?;
    Ok(value)
}

/// Bytes from hexadecimal digits, between which there may be white space; or what is wrong with them. Of more than `size`
/// bytes the last digits may be missing.
fn parse_hex(text: &[u8], size: usize) -> Result<Vec<u8>, String> {
    let mut digits = Vec::new();
    for (place, c) in String::from_utf8_lossy(text).chars().enumerate() {
        match c.to_digit(16) {
            Some(digit) => digits.push(digit as u8),
            None if c.is_ascii_whitespace() => {}
            None => return Err(format!("character {} is {c:?}, no digit", place + 1)),
        }
    }
    let pairs = digits.chunks_exact(2);
    if !pairs.remainder().is_empty() && pairs.len() <= size {
        let (count, s) = (digits.len(), if digits.len() == 1 { "" } else { "s" });
        return Err(format!("{count} digit{s}: half a byte too many or too few"));
    }
    Ok(pairs.map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    #[test]
    fn hexadecimal_is_read_as_it_is_written() {
        let bytes = [0, 1, 0xfe, 0xff];
        assert_eq!(super::parse_hex(crate::get::hex(&bytes).as_bytes(), 4).unwrap(), bytes);
        assert_eq!(super::parse_hex(b"00 Ff\n", 2).unwrap(), [0, 255]);
        let wrong = |text: &str| super::parse_hex(text.as_bytes(), 1).unwrap_err();
        assert!(wrong("0").contains("1 digit:"));
        assert!(wrong("0 00").contains("3 digits"));
        assert!(wrong("0g").contains("character 2 is 'g'"));
        assert!(wrong("0x00").contains("character 2 is 'x'"));
        assert!(wrong("f\u{fc}").contains("character 2 is '\u{fc}'"));
        // Too long in any case, and perhaps not read to its end.
        assert_eq!(super::parse_hex(b"00000", 1).unwrap(), [0, 0]);
    }
}
