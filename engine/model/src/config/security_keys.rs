//! The broker's keys about TLS, SASL, authorization and delegation tokens.
//!
//! Names, types, defaults and access are those of Apache Kafka 4.3.1.

use super::key::{Key, boolean, class, double, int, list, long, password, short, string, unknown};
use super::reason::{CLUSTER, JAVA, KERBEROS, SECURITY};

/// These keys.
pub(super) const SECURITY_KEYS: &[Key] = &[
    string(
        "authorizer.class.name",
        Some(""),
        "Authorizer; empty is none.",
    )
    .ignored(SECURITY),
    unknown(
        "super.users",
        None,
        "Principals that may do everything, as `User:name`, separated by semicolons.",
    )
    .ignored(SECURITY),
    unknown(
        "allow.everyone.if.no.acl.found",
        None,
        "Whether a resource without rules is open to everyone.",
    )
    .ignored(SECURITY),
    class(
        "principal.builder.class",
        Some("org.apache.kafka.common.security.authenticator.DefaultKafkaPrincipalBuilder"),
        "Class that names the principal of a connection.",
    )
    .per_broker()
    .ignored(JAVA),
    long(
        "connections.max.reauth.ms",
        Some("0"),
        "Time after which a SASL connection must authenticate again; 0 is never.",
    )
    .ignored(SECURITY),
    string("security.providers", None, "Security providers.").ignored(JAVA),
    password(
        "delegation.token.secret.key",
        None,
        "Secret that signs delegation tokens.",
    )
    .ignored(SECURITY),
    long(
        "delegation.token.max.lifetime.ms",
        Some("604800000"),
        "Longest life of a delegation token.",
    )
    .at_least(1)
    .ignored(SECURITY),
    long(
        "delegation.token.expiry.time.ms",
        Some("86400000"),
        "Time a delegation token is valid unless renewed.",
    )
    .at_least(1)
    .ignored(SECURITY),
    long(
        "delegation.token.expiry.check.interval.ms",
        Some("3600000"),
        "Time between two looks for expired tokens.",
    )
    .at_least(1)
    .ignored(SECURITY),
    class(
        "sasl.client.callback.handler.class",
        None,
        "Class that answers SASL callbacks as a client.",
    )
    .ignored(JAVA),
    list(
        "sasl.enabled.mechanisms",
        Some("GSSAPI"),
        "SASL mechanisms that are offered.",
    )
    .per_broker()
    .ignored(SECURITY),
    password(
        "sasl.jaas.config",
        None,
        "Login modules of a listener, in JAAS form.",
    )
    .per_broker()
    .ignored(SECURITY),
    string(
        "sasl.kerberos.kinit.cmd",
        Some("/usr/bin/kinit"),
        "Command that obtains Kerberos tickets.",
    )
    .per_broker()
    .ignored(KERBEROS),
    long(
        "sasl.kerberos.min.time.before.relogin",
        Some("60000"),
        "Time between two Kerberos logins.",
    )
    .per_broker()
    .ignored(KERBEROS),
    list(
        "sasl.kerberos.principal.to.local.rules",
        Some("DEFAULT"),
        "Rules that map Kerberos principals to names.",
    )
    .per_broker()
    .ignored(KERBEROS),
    string(
        "sasl.kerberos.service.name",
        None,
        "Kerberos principal the broker runs as.",
    )
    .per_broker()
    .ignored(KERBEROS),
    double(
        "sasl.kerberos.ticket.renew.jitter",
        Some("0.05"),
        "Random part of the renewal time.",
    )
    .per_broker()
    .ignored(KERBEROS),
    double(
        "sasl.kerberos.ticket.renew.window.factor",
        Some("0.8"),
        "Share of a ticket's life after which it is renewed.",
    )
    .per_broker()
    .ignored(KERBEROS),
    class(
        "sasl.login.callback.handler.class",
        None,
        "Class that answers login callbacks.",
    )
    .ignored(JAVA),
    class("sasl.login.class", None, "Class that logs in.").ignored(JAVA),
    int(
        "sasl.login.connect.timeout.ms",
        None,
        "Time allowed to connect to an identity provider.",
    )
    .ignored(SECURITY),
    int(
        "sasl.login.read.timeout.ms",
        None,
        "Time allowed for an identity provider's answer.",
    )
    .ignored(SECURITY),
    short(
        "sasl.login.refresh.buffer.seconds",
        Some("300"),
        "Seconds before expiry in which a login is refreshed.",
    )
    .range(0, 3600)
    .per_broker()
    .ignored(SECURITY),
    short(
        "sasl.login.refresh.min.period.seconds",
        Some("60"),
        "Seconds between two refreshes of a login.",
    )
    .range(0, 900)
    .per_broker()
    .ignored(SECURITY),
    double(
        "sasl.login.refresh.window.factor",
        Some("0.8"),
        "Share of a login's life after which it is refreshed.",
    )
    .between(0.5, 1.0)
    .per_broker()
    .ignored(SECURITY),
    double(
        "sasl.login.refresh.window.jitter",
        Some("0.05"),
        "Random part of that share.",
    )
    .between(0.0, 0.25)
    .per_broker()
    .ignored(SECURITY),
    long(
        "sasl.login.retry.backoff.ms",
        Some("100"),
        "Pause before a login is repeated.",
    )
    .ignored(SECURITY),
    long(
        "sasl.login.retry.backoff.max.ms",
        Some("10000"),
        "Longest such pause.",
    )
    .ignored(SECURITY),
    string(
        "sasl.mechanism.controller.protocol",
        Some("GSSAPI"),
        "SASL mechanism between brokers and controllers.",
    )
    .ignored(CLUSTER),
    string(
        "sasl.mechanism.inter.broker.protocol",
        Some("GSSAPI"),
        "SASL mechanism between brokers.",
    )
    .per_broker()
    .ignored(CLUSTER),
    string(
        "sasl.oauthbearer.assertion.algorithm",
        Some("RS256"),
        "Algorithm that signs an OAuth assertion.",
    )
    .ignored(SECURITY),
    string(
        "sasl.oauthbearer.assertion.claim.aud",
        None,
        "Audience of an OAuth assertion.",
    )
    .ignored(SECURITY),
    int(
        "sasl.oauthbearer.assertion.claim.exp.seconds",
        Some("300"),
        "Life of an OAuth assertion, in seconds.",
    )
    .ignored(SECURITY),
    string(
        "sasl.oauthbearer.assertion.claim.iss",
        None,
        "Issuer of an OAuth assertion.",
    )
    .ignored(SECURITY),
    boolean(
        "sasl.oauthbearer.assertion.claim.jti.include",
        Some("false"),
        "Whether an OAuth assertion has an id.",
    )
    .ignored(SECURITY),
    int(
        "sasl.oauthbearer.assertion.claim.nbf.seconds",
        Some("60"),
        "Seconds that an OAuth assertion is backdated.",
    )
    .ignored(SECURITY),
    string(
        "sasl.oauthbearer.assertion.claim.sub",
        None,
        "Subject of an OAuth assertion.",
    )
    .ignored(SECURITY),
    string(
        "sasl.oauthbearer.assertion.file",
        None,
        "File with an OAuth assertion.",
    )
    .ignored(SECURITY),
    string(
        "sasl.oauthbearer.assertion.private.key.file",
        None,
        "File with the key that signs OAuth assertions.",
    )
    .ignored(SECURITY),
    password(
        "sasl.oauthbearer.assertion.private.key.passphrase",
        None,
        "Passphrase of that key.",
    )
    .ignored(SECURITY),
    string(
        "sasl.oauthbearer.assertion.template.file",
        None,
        "File with a template of OAuth assertions.",
    )
    .ignored(SECURITY),
    string(
        "sasl.oauthbearer.client.credentials.client.id",
        None,
        "OAuth client id.",
    )
    .ignored(SECURITY),
    password(
        "sasl.oauthbearer.client.credentials.client.secret",
        None,
        "OAuth client secret.",
    )
    .ignored(SECURITY),
    int(
        "sasl.oauthbearer.clock.skew.seconds",
        Some("30"),
        "Difference of clocks that is tolerated in OAuth tokens.",
    )
    .ignored(SECURITY),
    list(
        "sasl.oauthbearer.expected.audience",
        Some(""),
        "Audiences that are accepted in OAuth tokens.",
    )
    .ignored(SECURITY),
    string(
        "sasl.oauthbearer.expected.issuer",
        None,
        "Issuer that is accepted in OAuth tokens.",
    )
    .ignored(SECURITY),
    long(
        "sasl.oauthbearer.jwks.endpoint.refresh.ms",
        Some("3600000"),
        "Time between two fetches of the provider's keys.",
    )
    .ignored(SECURITY),
    long(
        "sasl.oauthbearer.jwks.endpoint.retry.backoff.ms",
        Some("100"),
        "Pause before such a fetch is repeated.",
    )
    .ignored(SECURITY),
    long(
        "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms",
        Some("10000"),
        "Longest such pause.",
    )
    .ignored(SECURITY),
    string(
        "sasl.oauthbearer.jwks.endpoint.url",
        None,
        "Address of the provider's keys.",
    )
    .ignored(SECURITY),
    class(
        "sasl.oauthbearer.jwt.retriever.class",
        Some("org.apache.kafka.common.security.oauthbearer.DefaultJwtRetriever"),
        "Class that obtains OAuth tokens.",
    )
    .ignored(JAVA),
    class(
        "sasl.oauthbearer.jwt.validator.class",
        Some("org.apache.kafka.common.security.oauthbearer.DefaultJwtValidator"),
        "Class that checks OAuth tokens.",
    )
    .ignored(JAVA),
    string(
        "sasl.oauthbearer.scope",
        None,
        "Scope asked for in OAuth logins.",
    )
    .ignored(SECURITY),
    string(
        "sasl.oauthbearer.scope.claim.name",
        Some("scope"),
        "Claim that holds the scope.",
    )
    .ignored(SECURITY),
    string(
        "sasl.oauthbearer.sub.claim.name",
        Some("sub"),
        "Claim that holds the subject.",
    )
    .ignored(SECURITY),
    string(
        "sasl.oauthbearer.token.endpoint.url",
        None,
        "Address of the provider's token service.",
    )
    .ignored(SECURITY),
    class(
        "sasl.server.callback.handler.class",
        None,
        "Class that answers SASL callbacks as a server.",
    )
    .ignored(JAVA),
    int(
        "sasl.server.max.receive.size",
        Some("524288"),
        "Largest SASL message accepted, in bytes.",
    )
    .ignored(SECURITY),
    boolean(
        "ssl.allow.dn.changes",
        Some("false"),
        "Whether a new certificate may have another distinguished name.",
    )
    .ignored(SECURITY),
    boolean(
        "ssl.allow.san.changes",
        Some("false"),
        "Whether a new certificate may have other alternative names.",
    )
    .ignored(SECURITY),
    list(
        "ssl.cipher.suites",
        Some(""),
        "Cipher suites; empty leaves the choice to the library.",
    )
    .per_broker()
    .ignored(SECURITY),
    string(
        "ssl.client.auth",
        Some("none"),
        "Whether clients must show certificates.",
    )
    .one_of(&["required", "requested", "none"])
    .per_broker()
    .ignored(SECURITY),
    list(
        "ssl.enabled.protocols",
        Some("TLSv1.2,TLSv1.3"),
        "TLS versions that are accepted.",
    )
    .per_broker()
    .ignored(SECURITY),
    string(
        "ssl.endpoint.identification.algorithm",
        Some("https"),
        "How a peer's name is checked; empty is not at all.",
    )
    .per_broker()
    .ignored(SECURITY),
    class(
        "ssl.engine.factory.class",
        None,
        "Class that makes TLS engines.",
    )
    .per_broker()
    .ignored(JAVA),
    password("ssl.key.password", None, "Password of the private key.")
        .per_broker()
        .ignored(SECURITY),
    string(
        "ssl.keymanager.algorithm",
        Some("SunX509"),
        "Algorithm of the key manager.",
    )
    .per_broker()
    .ignored(JAVA),
    password(
        "ssl.keystore.certificate.chain",
        None,
        "Certificate chain in PEM form.",
    )
    .per_broker()
    .ignored(SECURITY),
    password("ssl.keystore.key", None, "Private key in PEM form.")
        .per_broker()
        .ignored(SECURITY),
    string("ssl.keystore.location", None, "File of the key store.")
        .per_broker()
        .ignored(SECURITY),
    password("ssl.keystore.password", None, "Password of the key store.")
        .per_broker()
        .ignored(SECURITY),
    string("ssl.keystore.type", Some("JKS"), "Format of the key store.")
        .per_broker()
        .ignored(SECURITY),
    string(
        "ssl.principal.mapping.rules",
        Some("DEFAULT"),
        "Rules that map certificate names to principals.",
    )
    .ignored(SECURITY),
    string("ssl.protocol", Some("TLSv1.3"), "TLS version preferred.")
        .per_broker()
        .ignored(SECURITY),
    string("ssl.provider", None, "Security provider for TLS.")
        .per_broker()
        .ignored(JAVA),
    string(
        "ssl.secure.random.implementation",
        None,
        "Source of randomness for TLS.",
    )
    .per_broker()
    .ignored(JAVA),
    string(
        "ssl.trustmanager.algorithm",
        Some("PKIX"),
        "Algorithm of the trust manager.",
    )
    .per_broker()
    .ignored(JAVA),
    password(
        "ssl.truststore.certificates",
        None,
        "Trusted certificates in PEM form.",
    )
    .per_broker()
    .ignored(SECURITY),
    string("ssl.truststore.location", None, "File of the trust store.")
        .per_broker()
        .ignored(SECURITY),
    password(
        "ssl.truststore.password",
        None,
        "Password of the trust store.",
    )
    .per_broker()
    .ignored(SECURITY),
    string(
        "ssl.truststore.type",
        Some("JKS"),
        "Format of the trust store.",
    )
    .per_broker()
    .ignored(SECURITY),
];
