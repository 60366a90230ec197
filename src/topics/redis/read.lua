-- Entries behind an offset, and the ends of the log. A log that does not exist is made.
--
-- KEYS: the head of the log, its entries.
-- ARGV: the offset, how many at most, a fresh epoch, how many bytes at most (one entry may be larger), and how many
-- an entry has at most: a larger one is a stranger's, and comes empty.
-- Returns the epoch, the first and the last offset, and a list of offsets and envelopes by turns.
local head, entries = KEYS[1], KEYS[2]
local after, most, size, largest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[4]), tonumber(ARGV[5])
local epoch, last, bytes, retained, age, room = read_head(head)
if not epoch then
    redis.call('HSET', head, 'epoch', ARGV[3], 'last', 0, 'bytes', 0, 'most', 1, 'age', 0, 'size', 0)
    redis.call('DEL', entries)
    redis.call('PEXPIRE', head, 3600000)
    return {ARGV[3], 1, 0, {}}
end
local first, left = trim(entries, milliseconds(), last, bytes, retained, age, room)
if left ~= bytes then
    redis.call('HSET', head, 'bytes', left)
end
redis.call('PEXPIRE', head, age + 3600000)

local page, total, from = {}, 0, string.format('%d', after + 1)
repeat
    local batch = redis.call('XRANGE', entries, from, '+', 'COUNT', math.min(16, most - #page / 2))
    for _, entry in ipairs(batch) do
        local envelope = entry[2][2]
        if string.len(envelope) > largest then
            envelope = ''
        end
        total = total + string.len(envelope)
        if total > size and #page > 0 then
            return {epoch, first, last, page}
        end
        table.insert(page, tonumber(string.match(entry[1], '^%d+')))
        table.insert(page, envelope)
        from = '(' .. entry[1]
    end
until #batch == 0 or #page / 2 >= most
return {epoch, first, last, page}
