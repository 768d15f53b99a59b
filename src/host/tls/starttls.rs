//! What is said in the clear before TLS begins. Byte by byte, so that nothing of TLS is taken away; bounded, since the other side
//! may say anything for as long as it likes.

use std::io::{self, Read, Write};

use crate::model::plain;
use crate::model::policy::StartTls;

/// All that a server says before TLS, in bytes. Greetings and features are some hundred.
const MOST: usize = 16 << 10;

/// Asks the server to begin TLS. `name` is who it is asked for (XMPP).
///
/// # Errors
/// Of the socket; `InvalidData` with a reason if the server does not want to.
pub(super) fn ask(socket: &mut (impl Read + Write), protocol: StartTls, name: &str) -> io::Result<()> {
    let mut talk = Talk { socket, read: 0 };
    match protocol {
        StartTls::None => Ok(()),
        StartTls::Smtp => {
            talk.until_final("220")?;
            talk.say(b"EHLO certwarden\r\n")?;
            talk.until_final("250")?;
            talk.say(b"STARTTLS\r\n")?;
            talk.until_final("220")
        }
        StartTls::Imap => {
            talk.answer(|line| line.starts_with("* OK"))?;
            talk.say(b"a1 STARTTLS\r\n")?;
            loop {
                let line = talk.line()?;
                if line.starts_with("a1 ") {
                    return if line.starts_with("a1 OK") { Ok(()) } else { Err(refused(&line)) };
                }
            }
        }
        StartTls::Pop3 => {
            talk.answer(|line| line.starts_with("+OK"))?;
            talk.say(b"STLS\r\n")?;
            talk.answer(|line| line.starts_with("+OK"))
        }
        StartTls::Ldap => talk.ldap(),
        StartTls::Postgres => {
            // PostgreSQL, "Message Formats": SSLRequest
            talk.say(&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f])?;
            match talk.byte()? {
                b'S' => Ok(()),
                _ => Err(refused("it has no TLS")),
            }
        }
        StartTls::Mysql => talk.mysql(),
        StartTls::Xmpp => talk.xmpp(name),
    }
}

fn refused(what: &str) -> io::Error {
    let what = plain::line(what, plain::CLAUSE);
    io::Error::new(io::ErrorKind::InvalidData, format!("it does not begin TLS: {what}"))
}

struct Talk<'a, S> {
    socket: &'a mut S,
    read: usize,
}

impl<S: Read + Write> Talk<'_, S> {
    fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes)?;
        self.socket.flush()
    }

    fn byte(&mut self) -> io::Result<u8> {
        self.read += 1;
        if self.read > MOST {
            return Err(refused("it talks without end"));
        }
        let mut one = [0];
        self.socket.read_exact(&mut one)?;
        Ok(u8::from_be_bytes(one))
    }

    fn bytes(&mut self, count: usize) -> io::Result<Vec<u8>> {
        (0..count).map(|_| self.byte()).collect()
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        loop {
            match self.byte()? {
                b'\n' => return Ok(String::from_utf8_lossy(&line).trim_end().to_owned()),
                byte => line.push(byte),
            }
        }
    }

    fn answer(&mut self, wanted: impl Fn(&str) -> bool) -> io::Result<()> {
        let line = self.line()?;
        if wanted(&line) { Ok(()) } else { Err(refused(&line)) }
    }

    /// SMTP (RFC 5321 §4.2.1): all lines but the last have a hyphen behind the code.
    fn until_final(&mut self, code: &str) -> io::Result<()> {
        loop {
            let line = self.line()?;
            match line.strip_prefix(code) {
                Some(rest) if rest.starts_with('-') => {}
                Some(_) => return Ok(()),
                None => return Err(refused(&line)),
            }
        }
    }

    fn until(&mut self, mark: &str) -> io::Result<String> {
        let mut text = Vec::new();
        while !text.ends_with(mark.as_bytes()) {
            text.push(self.byte()?);
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// An extended request with the OID of StartTLS (RFC 4511 §4.12, §4.14); its response has result code 0.
    fn ldap(&mut self) -> io::Result<()> {
        self.say(b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037")?;
        let head = self.bytes(2)?;
        let length = match head.as_slice() {
            [0x30, short @ 0..=0x7f] => usize::from(*short),
            [0x30, long @ 0x81..=0x84] => {
                self.bytes(usize::from(long & 0x0f))?.iter().fold(0, |n, b| (n << 8) | usize::from(*b))
            }
            _ => return Err(refused("it is no LDAP server")),
        };
        let message = self.bytes(length.min(MOST))?;
        // messageID, then [APPLICATION 24] whose first element is the ENUMERATED result code
        let result = message.windows(3).find_map(|w| if let [0x0a, 1, code] = w { Some(*code) } else { None });
        match result {
            Some(0) if message.contains(&0x78) => Ok(()),
            Some(code) => Err(refused(&format!("LDAP result {code}"))),
            None => Err(refused("it is no LDAP server")),
        }
    }

    /// MySQL, "Connection Phase": an initial handshake packet with `CLIENT_SSL`, upon it `SSLRequest`.
    fn mysql(&mut self) -> io::Result<()> {
        const CLIENT_SSL: u8 = 0x08; // in the second byte
        let head = self.bytes(4)?;
        let [a, b, c, _] = head.as_slice() else { return Err(refused("it is no MySQL server")) };
        let length = usize::from(*a) | (usize::from(*b) << 8) | (usize::from(*c) << 16);
        let greeting = self.bytes(length.min(MOST))?;
        if greeting.first() != Some(&10) {
            return Err(refused("it is no MySQL server that wants to talk to us"));
        }
        // version, NUL, thread id (4), salt (8), filler (1), capabilities (2)
        let capabilities = greeting.iter().position(|b| *b == 0).and_then(|end| greeting.get(end + 15));
        if capabilities.is_none_or(|c| c & CLIENT_SSL == 0) {
            return Err(refused("it has no TLS"));
        }
        let mut request = vec![32, 0, 0, 1];
        request.extend_from_slice(&[0x00, 0x8a, 0, 0]); // PROTOCOL_41, SSL, SECURE_CONNECTION
        request.extend_from_slice(&[0, 0, 0, 1, 33]); // longest packet, utf8
        request.resize(36, 0);
        self.say(&request)
    }

    /// RFC 6120 §5.4.2.
    fn xmpp(&mut self, name: &str) -> io::Result<()> {
        let stream = format!(
            "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
             xmlns:stream='http://etherx.jabber.org/streams' to='{name}' version='1.0'>"
        );
        self.say(stream.as_bytes())?;
        if !self.until("</stream:features>")?.contains("<starttls") {
            return Err(refused("it has no TLS"));
        }
        self.say(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")?;
        let answer = self.until(">")?;
        if answer.contains("<proceed") { Ok(()) } else { Err(refused(&answer)) }
    }
}
