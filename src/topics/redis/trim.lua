-- Drops the oldest entries that exceed the retention: `most` messages, `age` milliseconds, `size` bytes. At most 256
-- in one call, so that a log whose retention was lowered holds up nobody; the rest goes with the next calls.
-- Returns the first offset and the bytes that are left.
local function trim(entries, now, last, bytes, most, age, size)
    local dropped, batch, keep = 0, 2, nil
    repeat
        local oldest = redis.call('XRANGE', entries, keep or '-', '+', 'COUNT', batch)
        local found = #oldest
        for i = 1, found do
            local id, fields = oldest[i][1], oldest[i][2]
            local offset = tonumber(string.match(id, '^%d+'))
            -- One of a stranger has no time.
            local time = tonumber(fields[4])
            local is_old = not time or time + age < now
            local is_too_much = last - offset >= most or bytes > size and offset < last
            if not is_old and not is_too_much then
                if keep then
                    redis.call('XTRIM', entries, 'MINID', id)
                end
                return offset, bytes
            end
            -- One of a stranger was not counted.
            bytes = math.max(bytes - string.len(fields[2]) - 64, 0)
            dropped = dropped + 1
            keep = '(' .. id
        end
        if found == 0 then
            -- All of them are gone, by this call or because their key has expired.
            bytes = 0
        end
        batch = 16
    until found == 0 or dropped >= 256
    if keep then
        redis.call('XTRIM', entries, 'MINID', string.match(keep, '%d+') + 1)
    end
    return keep and string.match(keep, '%d+') + 1 or last + 1, bytes
end
