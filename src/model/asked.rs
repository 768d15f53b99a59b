//! What a certificate signing request (PKCS#10, RFC 2986) asks for, from bytes that nobody vouches for.

use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::ParsedExtension;
use x509_parser::oid_registry as oid;
use x509_parser::prelude::FromDer;

use super::cert::{KeyAlgorithm, general_name, key_algorithm, name};
use super::pem;
use super::plain;

/// A request, understood.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Asked {
    /// As `CertFacts::subject`.
    pub subject: String,
    /// The subject's parts one by one: common names, organizations, and how many others.
    pub common_names: Vec<String>,
    pub organizations: Vec<String>,
    pub other_parts: usize,
    /// As `CertFacts::sans`, in its order.
    pub sans: Vec<String>,
    pub key: KeyAlgorithm,
    /// What it asks for besides names, in words: another extension, another attribute, a second list of names.
    pub besides: Vec<String>,
    /// For whoever checks its signature.
    pub der: Vec<u8>,
}

/// Reads the one request in a PEM text.
///
/// # Errors
/// A clause: why it is none, or more than one.
pub fn parse(text: &[u8]) -> Result<Asked, String> {
    let mut blocks = pem::blocks(text);
    let block = blocks.next().ok_or("there is no PEM block in it")?.map_err(|e| e.to_string())?;
    if block.label != "CERTIFICATE REQUEST" {
        return Err(format!("its PEM block is a {}", plain::line(block.label, 40)));
    }
    // Go's decoder, which the signer uses, looks at the first only: what follows would be seen by nobody
    if blocks.next().is_some() {
        return Err("there is more than one PEM block in it".to_owned());
    }
    from_der(&block.decode().map_err(|e| e.to_string())?)
}

fn from_der(der: &[u8]) -> Result<Asked, String> {
    let (rest, request) =
        X509CertificationRequest::from_der(der).map_err(|e| format!("it is no certificate signing request: {e}"))?;
    if !rest.is_empty() {
        return Err(format!("{} bytes lie behind its end", rest.len()));
    }
    let info = &request.certification_request_info;
    let mut asked = Asked {
        subject: name(&info.subject),
        common_names: Vec::new(),
        organizations: Vec::new(),
        other_parts: 0,
        sans: Vec::new(),
        key: key_algorithm(&info.subject_pki),
        besides: Vec::new(),
        der: der.to_vec(),
    };
    for part in info.subject.iter_attributes() {
        let text = part.as_str().ok().map(str::to_owned);
        match (part.attr_type(), text) {
            (id, Some(text)) if *id == oid::OID_X509_COMMON_NAME => asked.common_names.push(text),
            (id, Some(text)) if *id == oid::OID_X509_ORGANIZATION_NAME => asked.organizations.push(text),
            _ => asked.other_parts += 1,
        }
    }
    let mut lists = 0;
    for attribute in info.iter_attributes() {
        let ParsedCriAttribute::ExtensionRequest(requested) = attribute.parsed_attribute() else {
            asked.besides.push(format!("attribute {}", attribute.oid.to_id_string()));
            continue;
        };
        for extension in &requested.extensions {
            match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(names) => {
                    lists += 1;
                    asked.sans.extend(names.general_names.iter().map(general_name));
                }
                _ => asked.besides.push(format!("extension {}", extension.oid.to_id_string())),
            }
        }
    }
    if lists > 1 {
        asked.besides.push("a second list of names".to_owned());
    }
    Ok(asked)
}
