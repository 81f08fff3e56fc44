// Package guard is the one door to the work. Every call of every front passes
// Handle: the guard finds the operation in the table, identifies the caller by
// its client token (or takes the identity of the configuration that a front calls
// as, see Identity), asks the policies, records the intent in the audit log,
// performs the operation, and records the outcome.
//
// Promises:
//   - No operation without a record: if the intent cannot be recorded the
//     operation is not performed; if the outcome cannot be recorded the answer is
//     withheld. Operations marked op.AuditNone read public state only.
//   - The text of a client token is kept nowhere. Records stand under
//     HMAC-SHA-256 of it with a random key that is itself a sealed record.
//   - What a policy does not allow is refused, and refusals are recorded. A policy
//     that holds a rule which the guard does not enforce is not accepted at all.
//   - An identity of the configuration reaches operations of engines only, those
//     that its policy allows.
//   - What a policy says of parameters is compared with what the operation gets,
//     not with how the caller wrote it.
//   - A revoked, expired or used-up client token opens nothing from the moment its
//     revocation is acknowledged, nor do its descendants.
//     A batch token, of which nothing is stored, opens nothing once its parent has
//     ended; an orphan batch token ends at its time only.
//   - A wrapped answer is a sealed record that opens once, within its time, for who
//     holds its wrapping token; the audit log does not show what it is.
//   - A mount that is being removed answers no more, and no call of it is under way
//     when its engine's records are deleted.
//   - A panic in a service costs that call only.
//
// The guard trusts the wiring (it registers the operations and hands over the
// recorder), the services' declarations of their own operations, and the store's
// sealed records. It does not trust callers, fronts' paths, or policy texts.
//
// One guard serves one store: it keeps client tokens, policies and mounts in
// memory and is told of changes only by its own operations.
package guard
