#include <safefuse/plan/plan_form.hpp>
#include <safefuse/read/checkpoint.hpp>

namespace sf = safefuse;

bool bound(const sf::plan_form& form, [[maybe_unused]] const sf::checkpoint& checkpoint) {
#ifdef SAFEFUSE_FAIL
    return form.bind(sf::checkpoint::open("model").value(), "experts").has_value();
#else
    return form.bind(checkpoint, "experts").has_value();
#endif
}
