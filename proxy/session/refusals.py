"""Every no that daypass says on the wire, in one table: SQLSTATE, severity, text, hint, and whether the session lives.

Nothing else in daypass writes an ErrorResponse. A text may hold what the client itself sent or what its grant
says; it never holds a token, a password, an upstream address or another person's name.
Invariant: before the proof of the token is verified, every failure of a login reads alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from proxy.wire import build


@dataclass(frozen=True, slots=True)
class Kind:
    """One row of the table. `text` and `hint` are format strings."""

    sqlstate: str
    severity: str
    text: str
    hint: str = ""
    routine: str = ""

    @property
    def lives(self) -> bool:
        """Whether the session goes on after this."""
        return self.severity == "ERROR"


TABLE: Final[dict[str, Kind]] = {
    # Before the proof.
    "protocol": Kind("08P01", "FATAL", "{text}"),
    "version": Kind("0A000", "FATAL", "{text}"),
    "no user": Kind("28000", "FATAL", "no PostgreSQL user name specified in startup packet"),
    "tls required": Kind(
        "28000",
        "FATAL",
        "daypass: this address takes TLS connections only",
        "connect with sslmode=require (better: sslmode=require channel_binding=require)",
    ),
    # In Postgres's own words.
    "certificate required": Kind(
        "28000",
        "FATAL",
        "connection requires a valid client certificate",
        "give the certificate that you were handed: sslcert=FILE sslkey=FILE",
    ),
    "password": Kind("28P01", "FATAL", 'password authentication failed for user "{user}"'),
    "login timeout": Kind("08P01", "FATAL", "daypass: the login was not completed within {seconds:g} s"),
    # After the proof.
    "admission": Kind("28000", "FATAL", "daypass: {text}", "{hint}"),
    "sessions": Kind(
        "53300",
        "FATAL",
        "daypass: grant {grant} already has {open} open sessions, and {limit} are allowed",
        "close one of them and connect again",
    ),
    "token used": Kind(
        "28000",
        "FATAL",
        "daypass: the token of grant {grant} was for one session, and has opened it",
        "ask the person who gave you access for a new token",
    ),
    "startup": Kind("42501", "FATAL", "daypass: {text}", "{hint}"),
    "encoding": Kind(
        "0A000",
        "FATAL",
        'daypass: client_encoding "{value}" is not available: statements are judged as UTF-8 text',
        "set client_encoding (PGCLIENTENCODING) to UTF8",
    ),
    "upstream": Kind("08006", "FATAL", "daypass: the database cannot be reached: {text}", "{hint}"),
    "upstream not ready": Kind(
        "57P03",
        "FATAL",
        'daypass: the database "{database}" is not available yet: {text}',
        "try again in a few seconds; `daypass doctor` tells the operator more",
    ),
    "policy gone": Kind(
        "28000",
        "FATAL",
        'daypass: the policy "{policy}" of grant {grant} no longer exists',
        "ask the person who gave you access for a new grant",
    ),
    "observed": Kind(
        "0A000",
        "FATAL",
        'daypass: the policy "{policy}" only observes, and names nothing that a role for "{database}" could be given',
        "the operator gives a policy in enforce mode, or a shared credential",
    ),
    "agreement missing": Kind(
        "28000",
        "FATAL",
        "daypass: grant {grant} asks for an agreement whose text is not there to be accepted: {names}",
        "ask the person who gave you access: `daypass doctor` tells the operator what is missing",
    ),
    "state": Kind("57P03", "FATAL", "daypass: grants cannot be looked up at the moment", "try again in a few seconds"),
    "clock": Kind(
        "57P03",
        "FATAL",
        "daypass: no session may begin now: the clock of this machine has been set, and nobody has confirmed it",
        "try again later; the operator runs `daypass doctor`",
    ),
    "recording": Kind(
        "58030",
        "FATAL",
        "daypass: this session cannot be recorded, so it ends here; nothing of this request was sent to the database",
        "tell the operator: the recording directory cannot be written",
    ),
    "no room": Kind(
        "53100",
        "FATAL",
        "daypass: no session begins now: there is too little free space to record it",
        "tell the operator: the disk with the recordings is nearly full; then connect again",
    ),
    # In a session.
    "denied": Kind("42501", "ERROR", "daypass: {text}", "{hint}"),
    "hold denied": Kind("42501", "ERROR", "daypass: another person refused this statement: {why}"),
    "hold timeout": Kind(
        "42501",
        "ERROR",
        "daypass: nobody approved this statement in time",
        "ask the person who gave you access who could, and send it again",
    ),
    "hold unavailable": Kind(
        "57P03", "ERROR", "daypass: this statement needs an approval, which cannot be asked for now", "try again later"
    ),
    # In Postgres's own words.
    "cancelled": Kind("57014", "ERROR", "canceling statement due to user request"),
    "limit": Kind("53400", "ERROR", "daypass: {text}", "{hint}"),
    "too long": Kind(
        "54000",
        "ERROR",
        "daypass: a statement of {size} bytes is longer than the {limit} bytes that are allowed",
        "split it, or ask for a larger limits.statement_bytes",
    ),
    "values too long": Kind(
        "54000", "ERROR", "daypass: bind values of {size} bytes are longer than the {limit} bytes that are allowed"
    ),
    "no statement": Kind("26000", "ERROR", 'prepared statement "{name}" does not exist'),
    "no unnamed statement": Kind("26000", "ERROR", "unnamed prepared statement does not exist"),
    "no portal": Kind("34000", "ERROR", 'portal "{name}" does not exist'),
    "too many names": Kind(
        "53400",
        "ERROR",
        "daypass: too many prepared statements and portals in one session",
        "close those that are no longer needed, or run DEALLOCATE ALL",
    ),
    "nested name": Kind(
        "0A000",
        "ERROR",
        "daypass: {name} is itself a statement about names ({kind}), and is not run by another statement",
        "send that statement itself",
    ),
    # In Postgres's own words and with its routine: drivers know these and prepare again by themselves.
    "stale": Kind(
        "0A000",
        "ERROR",
        "cached plan must not change result type",
        "daypass: the table or the policy has changed since this statement was prepared; prepare it again",
        routine="RevalidateCachedQuery",
    ),
    "function call": Kind(
        "42501", "ERROR", "daypass: the function call message is not available", "call the function in a SELECT"
    ),
    # In a signing session.
    "signature": Kind("22023", "ERROR", "daypass: {text}", "{hint}"),
    "not kept": Kind(
        "58030",
        "ERROR",
        "daypass: agreements cannot be looked up or kept at the moment",
        "nothing was signed; try again",
    ),
    # Endings.
    "expired": Kind(
        "57P01", "FATAL", "daypass: grant {grant} has expired", "ask the person who gave you access for a new grant"
    ),
    "revoked": Kind(
        "57P01",
        "FATAL",
        "daypass: grant {grant} was revoked{why}",
        "ask the person who gave you access",
    ),
    "paused": Kind(
        "57P01",
        "FATAL",
        "daypass: grant {grant} {why}",
        "connect again in its hours; the grant and its token stay as they are",
    ),
    "address": Kind(
        "57P01",
        "FATAL",
        "daypass: the policy of grant {grant} no longer lets it be used from this address",
        "connect from an address that the policy names, or ask the person who gave you access",
    ),
    "agreement": Kind(
        "57P01",
        "FATAL",
        "daypass: grant {grant} needs {names} accepted first: it is new, or newly asked for",
        "connect again: the next session shows it and takes your signature",
    ),
    "signed": Kind(
        "57P01",
        "FATAL",
        "daypass: this session was for signing, and all is signed",
        "connect again (in psql: \\c) to begin",
    ),
    "killed": Kind(
        "57P01",
        "FATAL",
        "daypass: this session was ended by an operator: {why}",
        "ask the person who gave you access",
    ),
    "released": Kind(
        "57P03",
        "FATAL",
        "daypass: grant {grant} pauses: the owner of the database is changing {table}",
        "connect again in a few minutes; the grant and its token stay as they are",
    ),
    "enforced": Kind(
        "57P01", "FATAL", "daypass: the policy {policy} refuses statements now; it did not before", "connect again"
    ),
    "idle": Kind("57P05", "FATAL", "daypass: the session was idle for more than {seconds:g} s"),
    "transaction": Kind("25P04", "FATAL", "daypass: a transaction was open for more than {seconds:g} s"),
    "shutdown": Kind("57P01", "FATAL", "daypass: the proxy is shutting down", "connect again in a moment"),
    "upstream lost": Kind(
        "08006",
        "FATAL",
        "daypass: the connection to the database was lost",
        "what was running may or may not have been carried out; connect again",
    ),
    "upstream broken": Kind("08P01", "FATAL", "daypass: the database sent something that makes no sense"),
    "setting changed": Kind(
        "42501", "FATAL", "daypass: the database changed {name} to {value}, which would change how SQL is read"
    ),
    "bug": Kind("XX000", "FATAL", "daypass: internal error; the session cannot go on"),
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """One no: what the client is told, and the `reason` (a key of the table) that the record holds."""

    reason: str
    sqlstate: str
    severity: str
    text: str
    hint: str = ""
    detail: str = ""
    position: int | None = None
    routine: str = ""

    @property
    def message(self) -> bytes:
        """The ErrorResponse."""
        return build.error(
            severity=self.severity,
            code=self.sqlstate,
            text=self.text,
            detail=self.detail,
            hint=self.hint,
            position=self.position,
            routine=self.routine,
        )


def refusal(reason: str, /, *, detail: str = "", position: int | None = None, **facts: object) -> Refusal:
    """The refusal for `reason`, its text filled in with `facts`."""
    kind = TABLE[reason]
    return Refusal(
        reason=reason,
        sqlstate=kind.sqlstate,
        severity=kind.severity,
        text=kind.text.format(**facts),
        hint=kind.hint.format(**facts),
        detail=detail,
        position=position,
        routine=kind.routine,
    )


class LoginRefused(Exception):
    """A login ends here. `refusal` is for the client, `truth` for the record: before the proof the two differ."""

    def __init__(self, refusal: Refusal, truth: str = "") -> None:
        super().__init__(refusal.text)
        self.refusal = refusal
        self.truth = truth or refusal.text
