-- +goose Up
-- What is due is found among what waits. What was sent, or given up, is in no index.
DROP INDEX pushes_due;
CREATE INDEX pushes_due ON pushes (component, next_at) WHERE next_at > 0;
-- Of messages the oldest of an account is the next: messages_of has it.
DROP INDEX messages_due;
