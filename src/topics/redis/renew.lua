-- Starts a new epoch if the log has lost entries that the node has seen.
--
-- KEYS: the head of the log, its entries.
-- ARGV: the epoch and the offset that the node has seen, a fresh epoch.
local epoch, last = read_head(KEYS[1])
if epoch and epoch == ARGV[1] and last < tonumber(ARGV[2]) then
    redis.call('HSET', KEYS[1], 'epoch', ARGV[3], 'last', 0, 'bytes', 0)
    redis.call('DEL', KEYS[2])
end
return redis.status_reply('OK')
