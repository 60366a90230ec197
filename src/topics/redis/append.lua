-- Numbers entries, keeps them, and announces them, in one step. An id that is known adds nothing.
--
-- KEYS: the head of the log, its entries.
-- ARGV: the channel, the epoch and the offset that the node has seen, a fresh epoch, what is retained (messages,
-- milliseconds, bytes); then, for each entry, its id and its envelope.
-- Returns the epoch and the offset of each.
local head, entries = KEYS[1], KEYS[2]
local channel, seen, fresh = ARGV[1], tonumber(ARGV[3]), ARGV[4]
local most, age, size = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local now = milliseconds()

-- Ids are kept for 30 to 60 seconds, in a hash for each half minute.
local half = math.floor(now / 30000)
local ids, older = head .. ':ids:' .. half, head .. ':ids:' .. half - 1
local known, count, added = {}, 0, 0
for i = 8, #ARGV, 2 do
    known[i] = redis.call('HGET', ids, ARGV[i]) or redis.call('HGET', older, ARGV[i])
    if not known[i] then
        count = count + 1
        added = added + string.len(ARGV[i + 1]) + 64
    end
end

if count > 0 then
    local epoch, last, bytes = read_head(head)
    local is_new = not epoch or epoch == ARGV[2] and last < seen
    if is_new then
        epoch, last, bytes = fresh, 0, 0
    elseif redis.call('EXISTS', entries) == 0 then
        bytes = 0
    end
    local function begin()
        bytes = bytes + added
        -- The first write is one that a server with a full memory refuses: it then refuses all of them.
        redis.call('HSET', head, 'epoch', epoch, 'last', last + count, 'bytes', bytes, 'most', most, 'age', age, 'size', size)
        if is_new then
            redis.call('DEL', entries)
        end
    end
    local function add(envelope)
        return redis.pcall('XADD', entries, last + 1 .. '-0', 'e', envelope, 't', now)
    end
    begin()
    for i = 8, #ARGV, 2 do
        if not known[i] then
            local reply = add(ARGV[i + 1])
            if reply.err and not is_new then
                -- At the first of them: a stranger has written what stands where the entries were. They are lost, and
                -- the log begins anew.
                is_new, epoch, last, bytes = true, fresh, 0, 0
                begin()
                reply = add(ARGV[i + 1])
            end
            if reply.err then
                return reply
            end
            last = last + 1
            known[i] = epoch .. last
            redis.call('HSET', ids, ARGV[i], known[i])
            redis.call('PUBLISH', channel, 'L' .. epoch .. string.format('%016x', last) .. ARGV[i + 1])
        end
    end
    local _, left = trim(entries, now, last, bytes, most, age, size)
    if left ~= bytes then
        redis.call('HSET', head, 'bytes', left)
    end
    redis.call('PEXPIRE', ids, 60000)
    redis.call('PEXPIRE', entries, age)
    redis.call('PEXPIRE', head, age + 3600000)
end

local positions = {}
for i = 8, #ARGV, 2 do
    table.insert(positions, string.sub(known[i], 1, 16))
    table.insert(positions, tonumber(string.sub(known[i], 17)))
end
return positions
