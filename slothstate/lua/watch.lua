-- `state.watch`, which lets Lua collect the iterators that loops have left before it begins another watch.
local watch, collectgarbage, next, setmetatable = ...
local given = setmetatable({}, { __mode = "k" })

local function noted(iterator, ...)
    given[iterator] = true
    return iterator, ...
end

return function(...)
    if next(given) then
        collectgarbage()
    end
    return noted(watch(...))
end
