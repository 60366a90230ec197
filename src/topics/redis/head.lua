-- The head of a log: its epoch, its last offset, the bytes of its entries, and what is retained: messages,
-- milliseconds, bytes. Nothing if there is no log, or if what stands there is not what these scripts write.
local function read_head(head)
    local found = redis.call('HMGET', head, 'epoch', 'last', 'bytes', 'most', 'age', 'size')
    local epoch = found[1]
    if not epoch or not string.match(epoch, '^' .. string.rep('[0-9a-f]', 16) .. '$') then
        return nil
    end
    for i = 2, 6 do
        local number = tonumber(found[i])
        local is_exact = i == 2 or i == 5
        -- Not a number equals nothing; from 1e14 on, Lua writes numbers with an exponent.
        if number ~= number or not number or is_exact and (number < 0 or number >= 1e14) then
            return nil
        end
        found[i] = number
    end
    return epoch, found[2], found[3], found[4], found[5], found[6]
end
