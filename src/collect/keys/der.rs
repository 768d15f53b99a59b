//! Just enough DER (X.690) to take apart what has a fixed form: a certificate's outer shell and private keys.
//! Whatever looks unusual is `None`, and OpenSSL is asked instead.

/// Universal tags, RFC 5280 and RFC 5958 use no others here.
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OID: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;

/// One element.
#[derive(Clone, Copy)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    /// With its header.
    pub(super) whole: &'a [u8],
    pub(super) content: &'a [u8],
}

/// The elements that follow each other in `bytes`. Ends early where the bytes are not DER.
pub(super) struct Elements<'a>(pub(super) &'a [u8]);

impl<'a> Elements<'a> {
    /// The next element if it has this tag.
    pub(super) fn require(&mut self, tag: u8) -> Option<Element<'a>> {
        self.next().filter(|e| e.tag == tag)
    }

    /// The next element if it is an integer that is not negative and as short as can be (X.690 §8.3.2): OpenSSL takes others
    /// too and writes them differently.
    pub(super) fn natural(&mut self) -> Option<Element<'a>> {
        self.require(INTEGER).filter(|e| match e.content {
            [0, rest @ ..] => rest.first().is_none_or(|b| *b >= 0x80),
            [first, ..] => *first < 0x80,
            [] => false,
        })
    }

    /// What is inside the one element of this tag that `bytes` is, to its last byte.
    pub(super) fn within(bytes: &'a [u8], tag: u8) -> Option<Self> {
        let mut outer = Self(bytes);
        let element = outer.require(tag)?;
        outer.0.is_empty().then_some(Self(element.content))
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Element<'a>;

    fn next(&mut self) -> Option<Element<'a>> {
        let (&tag, after) = self.0.split_first()?;
        let (&first, after) = after.split_first()?;
        let (len, after) = match first {
            0..=0x7f => (usize::from(first), after),
            // two bytes of length are 64 KiB: no key and no certificate of a node has more
            0x81 => after.split_first().map(|(a, rest)| (usize::from(*a), rest))?,
            0x82 => after.split_first_chunk().map(|(l, rest)| (usize::from(u16::from_be_bytes(*l)), rest))?,
            _ => return None,
        };
        let (content, rest) = after.split_at_checked(len)?;
        let whole = self.0.get(..self.0.len() - rest.len())?;
        self.0 = rest;
        Some(Element { tag, whole, content })
    }
}

/// `content` as one element. None if it is longer than a two-byte length can say.
pub(super) fn wrap(tag: u8, content: &[&[u8]]) -> Option<Vec<u8>> {
    let len: usize = content.iter().map(|c| c.len()).sum();
    let [high, low] = u16::try_from(len).ok()?.to_be_bytes();
    let mut out = Vec::with_capacity(len + 4);
    match (high, low) {
        (0, 0..=0x7f) => out.extend([tag, low]),
        (0, _) => out.extend([tag, 0x81, low]),
        _ => out.extend([tag, 0x82, high, low]),
    }
    for part in content {
        out.extend_from_slice(part);
    }
    Some(out)
}
