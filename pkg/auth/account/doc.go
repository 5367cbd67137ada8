// Package account is users, their passwords, sessions and API tokens.
//
// # What a caller shows
//
//   - an access token: a JWT signed with EdDSA, good for AccessLifetime, which names a
//     session. It is checked against the sessions there are at every request, so that the end
//     of a session is the end of its access tokens.
//   - an API token: prt_<name>.<secret>. Of the secret the store has a SHA-256, which is enough
//     for 256 random bits.
//   - the local administrator's token, which no user stands behind.
//
// A refresh token, prr_<session>.<secret>, is exchanged for an access token and the next
// refresh token. One that comes twice was stolen from one of the two who sent it: the session
// ends. Within reuseGrace it is taken for a second window of the same browser and refused
// only.
//
// # What is where
//
// User, Session and APIToken are objects of the store. Requests are decided by an immutable
// snapshot of them in memory; a change swaps it before it is answered. A check of an access
// token costs one signature, once: later it is known by its hash. LastUsed of API tokens is
// kept in memory and written now and then.
//
// # Guessing
//
// Attempts that failed are counted by address, and by user and address together; after a few
// each makes the next wait longer. A user is never locked: whoever guesses from elsewhere
// cannot keep the owner out, and the local administrator's token is not a password. An
// address that a user has a session from is not counted against that user by what others do.
// Nothing says whether a user exists: the answer and the time it takes are the same.
package account
