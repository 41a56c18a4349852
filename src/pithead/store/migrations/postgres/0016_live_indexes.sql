-- What is looked for often is found without looking at all the rest: the first piece of each output stands for all of it, and
-- messages are asked for by their webhook, so that a long backlog of one costs the others nothing.
DROP INDEX outputs_at;
CREATE INDEX outputs_begun ON outputs (at) WHERE start = 0;
DROP INDEX deliveries_due;
CREATE INDEX deliveries_due ON deliveries (webhook, due_at) WHERE state = 'pending';
