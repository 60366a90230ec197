-- Numbers an entry, keeps it, and announces it, in one step. An id that is known adds nothing.
--
-- KEYS: the head of the log, its entries.
-- ARGV: the channel, the entry's id, the epoch and the offset that the node has seen, a fresh epoch, what is retained
-- (messages, milliseconds, bytes), the envelope.
-- Returns the epoch and the offset.
local head, entries = KEYS[1], KEYS[2]
local id, seen, fresh, envelope = ARGV[2], tonumber(ARGV[4]), ARGV[5], ARGV[9]
local most, age, size = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local now = milliseconds()

-- Ids are kept for 30 to 60 seconds, in a hash for each half minute.
local half = math.floor(now / 30000)
local ids = head .. ':ids:' .. half
local known = redis.call('HGET', ids, id) or redis.call('HGET', head .. ':ids:' .. half - 1, id)
if known then
    return {string.sub(known, 1, 16), tonumber(string.sub(known, 17))}
end

local epoch, last, bytes = read_head(head)
local is_new = not epoch or epoch == ARGV[3] and last < seen
if is_new then
    epoch, last, bytes = fresh, 0, 0
elseif redis.call('EXISTS', entries) == 0 then
    bytes = 0
end
local function add()
    last = last + 1
    bytes = bytes + string.len(envelope) + 64
    -- The first write is one that a server with a full memory refuses: it then refuses all of them.
    redis.call('HSET', head, 'epoch', epoch, 'last', last, 'bytes', bytes, 'most', most, 'age', age, 'size', size)
    if is_new then
        redis.call('DEL', entries)
    end
    return redis.pcall('XADD', entries, last .. '-0', 'e', envelope, 't', now)
end
local added = add()
if added.err and not is_new then
    -- A stranger has written what stands where the entries were: they are lost, and the log begins anew.
    is_new, epoch, last, bytes = true, fresh, 0, 0
    added = add()
end
if added.err then
    return added
end
local _, left = trim(entries, now, last, bytes, most, age, size)
if left ~= bytes then
    redis.call('HSET', head, 'bytes', left)
end
redis.call('HSET', ids, id, epoch .. last)
redis.call('PEXPIRE', ids, 60000)
redis.call('PEXPIRE', entries, age)
redis.call('PEXPIRE', head, age + 3600000)
redis.call('PUBLISH', ARGV[1], 'L' .. epoch .. string.format('%016x', last) .. envelope)
return {epoch, last}
