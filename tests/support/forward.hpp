// A user's header that passes the library's objects on. It knows only their names.
#ifndef SAFEFUSE_TESTS_FORWARD_HPP
#define SAFEFUSE_TESTS_FORWARD_HPP

#include <safefuse/fwd.hpp>

namespace forward {

bool has_experts(const safefuse::checkpoint& checkpoint,
                 safefuse::result<safefuse::copy_plan>& plan);
safefuse::result<safefuse::tensor_view> first_of(const safefuse::tensor_file& file,
                                                 safefuse::errc otherwise);

}  // namespace forward

#endif
